"""Runs in this process, and what their checkpoints say of consensus."""

import math

import numpy as np
import torch
from safetensors.torch import load_file

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.runner import train
from tests.support.processes.cli_runs import FEDAPM, experiment

EVERYTHING = {"blocks": True, "dual_sum": True, "lagrangian": True}
KEEP_ALL = {"every": 1, "keep": 99}
JOINT = {
    key: value
    for key, value in FEDAPM.items()
    if key not in ("personal_work", "shared_work")
} | {"block_order": "joint", "joint_work": {"epochs": 1}}
BALANCED = FEDAPM | {
    "rho": 1e-3,
    "residual_balancing": {"ratio": 2.0},
    "relaxation": 1.6,
}
OWN_UNIT = BALANCED | {"units": "client", "rho": 0.05, "lr_shared": 0.1}
"""In units of a client's own loss."""

SIZES = {"body.0.weight": 48, "body.0.bias": 8}
"""Of the shared parameters of the small network, in its order."""


def go(path, data, resume=False, stop=None, **changes):
    """Run an experiment in this process, with a checkpoint of every round.

    With `stop`, it is to end early, and must say that it can go on.
    """
    values = {"dtype": "float64", "checkpoint": KEEP_ALL, "rounds": 5} | changes
    config = validate(experiment(data, **values), "test")
    code = train(
        Serial(), config, directory=path, resume=resume, progress="none", stop=stop
    )
    assert code == (75 if stop else 0)
    return path


def final_clients(run):
    """Return all tensors of the clients' final states that hold a number, by key."""
    found = {}
    for path in sorted((run / "final").glob("clients-*.safetensors")):
        found |= load_file(path)
    return {key: tensor for key, tensor in found.items() if tensor.numel()}


def same_tensors(ours, other):
    """Check that two sets of tensors by name are equal, bit for bit."""
    assert ours.keys() == other.keys()
    for key, tensor in ours.items():
        assert torch.equal(tensor, other[key]), key


class Looked:
    """The states in a run's checkpoints, those of untouched clients included."""

    def __init__(self, run, data, **changes):
        config = validate(experiment(data, **{"dtype": "float64"} | changes), "test")
        session = open_context(config, Serial())
        (group,) = session.groups.members
        self.start = group.initial["shared"].double()
        self.run, self.m = run, session.federation.num_clients
        counts = session.federation.manifest.counts["train"].astype(float)
        by_samples = config.client_weights == "samples"
        alpha = counts / counts.sum() if by_samples else np.full(self.m, 1 / self.m)
        self.alpha = torch.from_numpy(alpha)
        own_unit = config.algorithm.get("units") == "client"
        self.counted = self.m * self.alpha if own_unit else torch.ones(self.m).double()
        """How often each client counts in sums over clients, (m,)."""

        self.initial = {
            "shared": group.initial["shared"],
            "personal": group.initial["personal"],
            "dual": torch.zeros_like(group.initial["shared"]),
            "rho": torch.tensor([session.algorithm.rho], dtype=torch.float64),
        }

    def folder(self, t):
        return self.run / "checkpoints" / f"round-{t:06}"

    def server(self, t):
        if t == 0:
            return self.start
        return load_file(self.folder(t) / "server.safetensors")["rows"][0]

    def clients(self, t, name):
        found = {}
        for path in self.folder(t).glob("clients-*.safetensors"):
            found |= load_file(path)
        rows = [found.get(f"{i}/{name}", self.initial[name]) for i in range(self.m)]
        return torch.stack(rows).double()


def residuals_of(looked, t, own_rho, cut=slice(None)):
    """Return primal and dual and what each is relative to, from checkpoints."""
    copies, duals = (looked.clients(t, k)[:, cut] for k in ("shared", "dual"))
    u, before = looked.server(t)[cut], looked.server(t - 1)[cut]
    spread = math.sqrt(looked.m) * float(u.norm())
    root = looked.counted.sqrt()
    rows = root[:, None]
    return (
        float((rows * (copies - u)).norm()),
        float((root * own_rho).norm() * (u - before).norm()),
        max(float((rows * copies).norm()), spread),
        float((rows * duals).norm()),
    )


def penalties(looked, t, records):
    """Return each client's last penalty: its last round's, by the records alone."""
    own = torch.full((looked.m,), records[0]["rho"], dtype=torch.float64)
    for record in records[:t]:
        own[ids(record["participants"])] = record["rho"]
    return own


def ids(text):
    spans = [part.split("-") for part in text.split(",")]
    return [i for span in spans for i in range(int(span[0]), int(span[-1]) + 1)]
