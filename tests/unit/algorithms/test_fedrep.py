"""FedPer, FedRep, FedBABU and FedAvg-FT against their papers' formulas.

The formulas are written out once more in numpy; where theory says where a method comes
to rest, one linear solve does. The last tests look at whole runs.
"""

import csv
from copy import deepcopy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, f1_score
from torch.nn.functional import cross_entropy

from fedapm_mpi.algorithms import algorithms
from fedapm_mpi.algorithms.base import LocalBudget
from fedapm_mpi.analysis.client_model import load_client_model
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.runner import train
from tests.support.oracles.in_memory_federation import UNEVEN, Federation
from tests.support.oracles.quadratic import DIM_U, KAPPA, Quadratic
from tests.support.processes.cli_runs import digest_of, experiment

ROUNDS = ([0, 3], [5], [1, 3, 4], [0, 1, 2, 3, 4, 5], [2, 3])
HEAD = {"lr_head": 0.3, "head_work": LocalBudget(steps=4)}
BODY = {"lr_body": 0.1, "body_work": LocalBudget(epochs=2)}
JOINT = {"lr": 0.2, "work": LocalBudget(steps=3)}
TUNING = {"lr_fine_tune": 0.3, "fine_tune_work": LocalBudget(steps=4)}
OPTIONS = {
    "fedper": JOINT,
    "fedrep": HEAD | BODY,
    "fedbabu": JOINT | TUNING,
    "fedavg-ft": JOINT | TUNING,
}
CLOSE = {"rtol": 0, "atol": 1e-13}


def make(name, **changes):
    return algorithms.get(name)(batch_size=0, **OPTIONS.get(name, {}) | changes)


def federate(algorithm, quadratic):
    """Return a federation; where the algorithm shares everything, (u, v) is shared."""
    federation = Federation(algorithm, quadratic)
    if algorithm.sharing == "all":
        start = torch.cat([quadratic.start_u, quadratic.start_v])
        federation.server = start[None].clone()
        federation.clients = [algorithm.new_client(start, start[:0]) for _ in UNEVEN]
        for problem in federation.problems:
            problem.shared = problem._point
            problem.personal = problem._point[len(start) :]
    return federation


def descent(quadratic, i, v, u, part, lr, steps, decay):
    """Return (v, u) after gradient steps on f_i + decay/2 |.|^2 in part of them."""
    a, b, c = (x[i].numpy() for x in (quadratic.a, quadratic.b, quadratic.c))
    for _ in range(steps):
        residual = a @ v + b @ u - c
        slope_v = a.T @ residual + (KAPPA + decay) * v
        slope_u = b.T @ residual + (KAPPA + decay) * u
        if part != "body":
            v = v - lr * slope_v
        if part != "head":
            u = u - lr * slope_u
    return v, u


def participate(name, quadratic, i, v, u, decay):
    """Return a participant's (v, u) after its local work."""
    if name == "fedrep":
        v, u = descent(quadratic, i, v, u, "head", 0.3, 4, decay)
        return descent(quadratic, i, v, u, "body", 0.1, 2, decay)
    part = "body" if name == "fedbabu" else "all"
    return descent(quadratic, i, v, u, part, 0.2, 3, decay)


def replay(name, quadratic, decay, average):
    """Yield after each round all v, what clients sent, and what the server has."""
    alpha, m = quadratic.weights.numpy(), quadratic.m
    v, own = ([x.numpy()] * m for x in (quadratic.start_v, quadratic.start_u))
    mean_v, u = v[0], own[0]
    for participants in ROUNDS:
        for i in participants:
            start = mean_v if name == "fedavg-ft" else v[i]
            v[i], own[i] = participate(name, quadratic, i, start, u, decay)
        counted = participants if average == "participants" else list(range(m))
        share = alpha[counted] / alpha[counted].sum()
        mean_v, u = (share @ np.array(x)[counted] for x in (v, own))
        if name == "fedavg-ft":
            yield v, np.hstack([own, v]), np.hstack([u, mean_v])
        else:
            yield v, own, u


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("average", ["participants", "all"])
def test_every_round_is_what_the_formulas_say(name, decay, average):
    quadratic = Quadratic(UNEVEN)
    algorithm = make(name, weight_decay=decay, server_average=average)
    federation = federate(algorithm, quadratic)
    expected = replay(name, quadratic, decay, average)
    for participants, (v, sent, server) in zip(ROUNDS, expected, strict=True):
        federation.round(participants)
        np.testing.assert_allclose(federation.consensus, server, **CLOSE)
        assert {x.dtype for x in federation.increment.values()} == {torch.float64}
        for client, own_v, own in zip(federation.clients, v, sent, strict=True):
            np.testing.assert_allclose(client["shared"], own, **CLOSE)
            if algorithm.sharing == "split":
                np.testing.assert_allclose(client["personal"], own_v, **CLOSE)


PERSONAL = {"lr_personal": 0.3, "personal_work": LocalBudget(steps=4)}
SHARED = {"lr_shared": 0.1, "shared_work": LocalBudget(epochs=2)}
TWINS = [
    ("fedper", "fedsim", JOINT),
    ("fedrep", "fedalt", PERSONAL | SHARED),
    ("fedavg-ft", "fedavg", JOINT),
]
COMMON = [
    {},
    {"weight_decay": 0.3, "server_average": "all"},
    {"server_optimizer": {"name": "adam", "lr": 0.1}},
]


@pytest.mark.parametrize(("name", "twin", "options"), TWINS)
@pytest.mark.parametrize("common", COMMON)
def test_it_trains_as_its_twin_does_bit_for_bit(name, twin, options, common):
    quadratic = Quadratic(UNEVEN)
    ours = Federation(make(name, **common), quadratic)
    theirs = Federation(make(twin, **options, **common), quadratic)
    assert ours.algorithm.sharing == theirs.algorithm.sharing
    for participants in ROUNDS:
        ours.round(participants)
        theirs.round(participants)
        assert torch.equal(ours.server, theirs.server)
        for entry in ("shared", "personal"):
            assert torch.equal(ours.stack(entry), theirs.stack(entry))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fedper", {"lr": 0.4, "work": LocalBudget(steps=1)}),
        ("fedrep", {"lr_head": 0.9, "lr_body": 0.6, "body_work": LocalBudget(steps=1)}),
    ],
)
def test_with_one_shared_step_it_comes_to_rest_at_the_joint_minimiser(name, options):
    federation = Federation(make(name, **options), Quadratic(UNEVEN))
    federation.run(1_000)
    assert federation.error() < 1e-10


TUNERS = [("fedbabu", p) for p in ("head", "body", None)] + [("fedavg-ft", None)]


@pytest.mark.parametrize(("name", "part"), TUNERS)
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_fine_tuning_takes_its_own_steps_and_leaves_no_trace(name, part, decay):
    quadratic = Quadratic(UNEVEN)
    options = {"fine_tune": part} if part else {}
    federation = federate(make(name, weight_decay=decay, **options), quadratic)
    for participants in ([0, 3], [5, 3]):
        federation.round(participants)
        for i, problem in enumerate(federation.problems):
            client, broadcast = federation.clients[i], federation.server.clone()
            before = deepcopy(client)
            problem.forget()
            federation.algorithm.load_personal_model(
                broadcast, client, problem, UNEVEN[i]
            )
            assert torch.equal(broadcast, federation.server)
            assert client.keys() == before.keys()
            assert all(torch.equal(client[entry], before[entry]) for entry in before)
            u, v = np.split(federation.consensus.numpy(), [DIM_U])
            v = quadratic.start_v.numpy() if name == "fedbabu" else v
            v, u = descent(quadratic, i, v, u, part, 0.3, 4, decay)
            found = torch.cat([problem.shared, problem.personal])
            np.testing.assert_allclose(found, np.hstack([u, v]), **CLOSE)


@pytest.mark.parametrize(
    ("name", "key"),
    [(name, key) for name in OPTIONS for key in OPTIONS[name] if "work" in key],
)
def test_no_phase_knows_a_tolerance(name, key):
    with pytest.raises(ValueError, match=f"^{key} takes epochs or steps"):
        make(name, **{key: LocalBudget(xi=0.1, decay=0.5, max_epochs=3)})


def test_fine_tuning_something_else_is_refused(toy):
    algorithm = {"name": "fedbabu", "fine_tune": "tail"} | FILE | FILE_TUNING
    with pytest.raises(ConfigError, match=r"fine_tune: .*'head', 'body' or 'all'"):
        validate(experiment(toy["features"], algorithm=algorithm), "test")


FILE = {"lr": 0.2, "batch_size": 8, "work": {"epochs": 2}, "weight_decay": 0.01}
FILE_TUNING = {"lr_fine_tune": 0.3, "fine_tune_work": {"steps": 5}}


def run(data, folder, name, *, every=3, **options):
    """Run an experiment; return its configuration."""
    values = experiment(
        data,
        dtype="float64",
        algorithm={"name": name} | FILE | options,
        split={"personal": ["head.*"]} if name == "fedbabu" else None,
        evaluation={"every": every},
    )
    config = validate(values, "test")
    assert train(Serial(), config, directory=folder, progress="none") == 0
    return config


def fine_tune(module, x, y, part):
    """Train with torch's own SGD on the full batch."""
    named = module.named_parameters()
    chosen = [p for name, p in named if part in (name.split(".")[0], "all")]
    sgd = torch.optim.SGD(chosen, lr=0.3, weight_decay=0.01)
    for _ in range(5 if len(y) else 0):
        sgd.zero_grad()
        cross_entropy(module(x), y).backward()
        sgd.step()


@pytest.mark.parametrize(("name", "part"), TUNERS)
@pytest.mark.parametrize("size", [0, 8])
def test_runs_evaluate_the_fine_tuned_models(toy, tmp_path, name, part, size):
    """Which torch alone makes again and scikit-learn scores.

    One client has no sample to train on, another none to test on.
    """
    options = FILE_TUNING | {"batch_size": size} | ({"fine_tune": part} if part else {})
    session = open_context(run(toy["odd"], tmp_path / "r", name, **options), Serial())
    start = session.groups.members[
        0
    ].model.module  # the initial model, whose head FedBABU keeps
    u = load_file(tmp_path / "r/final/shared.safetensors")
    start.load_state_dict(u, strict=False)
    lines = (tmp_path / "r/clients.csv").read_text().splitlines()
    for i, row in enumerate(csv.DictReader(lines)):
        expected, model = deepcopy(start), load_client_model(tmp_path / "r", i)
        stored = [session.reader.read(i, split) for split in ("train", "test")]
        x, test_x = (torch.tensor(s.inputs["x"]).double() for s in stored)
        y, test_y = (torch.tensor(s.labels) for s in stored)
        fine_tune(expected, x, y, part or "all")
        pairs = zip(model.parameters(), expected.parameters(), strict=True)
        same = all(torch.allclose(found, value, **CLOSE) for found, value in pairs)
        assert same == (size == 0 or len(y) == 0), "mini-batches lead elsewhere"
        if row["test_samples"] != "0":
            with torch.no_grad():
                scores = model(test_x)
            predicted = scores.argmax(1)
            f1 = f1_score(test_y, predicted, average="weighted", zero_division=0)
            accuracy = accuracy_score(test_y, predicted)
            figures = {key: float(row[key]) for key in ("loss", "accuracy", "f1")}
            true = {"loss": float(cross_entropy(scores, test_y)), "accuracy": accuracy}
            assert figures == pytest.approx(true | {"f1": f1}, rel=1e-12)
    assert i == 7


@pytest.mark.parametrize("name", ["fedbabu", "fedavg-ft"])
def test_runs_do_not_depend_on_how_often_they_are_evaluated(toy, tmp_path, name):
    digests = set()
    for every in (1, 3):
        run(toy["odd"], tmp_path / str(every), name, every=every, **FILE_TUNING)
        digests.add(digest_of(tmp_path / str(every)))
    if name == "fedavg-ft":  # trains as FedAvg does
        run(toy["odd"], tmp_path / "plain", "fedavg")
        digests.add(digest_of(tmp_path / "plain"))
    assert len(digests) == 1
