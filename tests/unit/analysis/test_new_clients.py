"""New clients' figures against their models, put together and fitted by hand."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fedapm_mpi.analysis.client_model import load_client_model
from fedapm_mpi.analysis.new_clients import step_size
from fedapm_mpi.cli import evaluate as evaluate_command
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.engine.tensor_files import read_tensors
from fedapm_mpi.errors import FedAPMError
from fedapm_mpi.models import models
from fedapm_mpi.training.runner import train
from tests.support.preparation import command, prepare
from tests.support.processes.cli_runs import experiment

RNG = np.random.default_rng(0)
M, EACH, NEW = 6, 20, 2
LR, EPOCHS = 0.5, 3


def made(folder, seed=0, clients=M, **more):
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(clients), EACH)
    x = rng.normal(size=(len(owner), 4)).astype(np.float32)
    slopes = np.eye(4, 3) + 0.5 * rng.normal(size=(clients, 4, 3))
    y = np.einsum("ni,nik->nk", x, slopes[owner]).argmax(axis=1)
    np.savez(f"{folder}.npz", x_f=x, y=y, client=owner, **more)
    return f"{folder}.npz"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("new-clients")
    prepare("arrays", made(root / "raw"), root / "d", "new_clients=0.3")
    config = experiment(
        root / "d",
        model={"name": "mlp", "hidden": [5]},
        split={"personal": ["head.*"]},
        participation="full",
    )
    wanted = validate(config, "test")
    train(Serial(), wanted, directory=root / "run", progress="none")
    return root / "run"


def evaluated(run, out, *words):
    command(evaluate_command, run, "--out", out, *words)
    header, *rows = (out / "clients.csv").read_text().splitlines()
    table = [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]
    return table, json.loads((out / "summary.json").read_text())


def by_hand(run, client, epochs):
    """The loss of a new client, before and after gradient steps on its own head."""
    manifest = read_manifest(run.parent / "d")
    module = models.get("mlp")(manifest.inputs, 3, hidden=(5,)).double()
    trained = [load_client_model(run, k).double().state_dict() for k in range(M - NEW)]
    shared = read_tensors(run / "final" / "shared.safetensors")
    assert set(shared) == {"body.0.weight", "body.0.bias"}
    given = {
        name: torch.stack([one[name] for one in trained]).mean(dim=0)
        for name in trained[0]
    }
    module.load_state_dict(given)
    reader = ShardReader(manifest)
    parts = {}
    for split in ("train", "test"):
        stored = reader.read(client, split)
        parts[split] = (
            torch.from_numpy(stored.inputs["f"]).double(),
            torch.from_numpy(stored.labels),
        )
    losses = []
    for _ in range(epochs + 1):
        x, y = parts["test"]
        losses.append(float(cross_entropy(module(x), y).detach()))
        module.zero_grad()
        x, y = parts["train"]
        cross_entropy(module(x), y).backward()
        with torch.no_grad():
            for parameter in module.head.parameters():
                parameter -= LR * parameter.grad
    return losses[0], losses[-1]


def test_they_get_the_shared_model_and_fit_the_mean_head(run, tmp_path):
    words = ("--epochs", EPOCHS, "--lr", LR, "--batch-size", 0)
    table, summary = evaluated(run, tmp_path / "out", *words)
    assert [int(row["client"]) for row in table] == [4, 5]
    losses = [by_hand(run, client, EPOCHS) for client in (4, 5)]
    for row, (before, after) in zip(table, losses, strict=True):
        assert float(row["before_fine_tuning_loss"]) == pytest.approx(before, rel=1e-5)
        assert float(row["loss"]) == pytest.approx(after, rel=1e-5)
        assert after != pytest.approx(before, rel=1e-3)
    assert summary["loss"] == pytest.approx(np.mean(losses, axis=0)[1], rel=1e-5)
    assert (summary["clients"], summary["evaluated_split"]) == (2, "test")
    assert summary["pooled"]["samples"] == sum(
        int(r["evaluated_samples"]) for r in table
    )


def test_without_a_fit_it_is_the_model_as_given(run, tmp_path, capsys):
    table, summary = evaluated(run, tmp_path / "out", "--fit", "none")
    assert "before_fine_tuning" not in summary
    for row, client in zip(table, (4, 5), strict=True):
        before, _ = by_hand(run, client, 0)
        assert float(row["loss"]) == pytest.approx(before, rel=1e-5)
    assert "2 new clients' own test parts" in capsys.readouterr().out


def test_all_clients_of_another_data_set_are_new(run, tmp_path):
    prepare("arrays", made(tmp_path / "raw", seed=5, clients=3), tmp_path / "e")
    table, summary = evaluated(run, tmp_path / "out", "--data", tmp_path / "e")
    assert len(table) == summary["clients"] == 3


def test_refuses(run, tmp_path):
    def refused(words, said, of=run):
        with pytest.raises(FedAPMError, match=said):
            command(evaluate_command, of, "--out", tmp_path / "out", *words)

    prepare("arrays", made(tmp_path / "raw"), tmp_path / "e", "normalise=none")
    with np.load(tmp_path / "raw.npz") as stored:
        other = dict(stored) | {"y": stored["y"] % 2}
    np.savez(tmp_path / "two.npz", **other)
    prepare("arrays", tmp_path / "two.npz", tmp_path / "two")
    refused(["--data", tmp_path / "two"], "other classes than the data set of")
    refused([], "is not a run directory", of=tmp_path)
    config = experiment(tmp_path / "e", model="logistic", algorithm="local", split=None)
    local = tmp_path / "local"
    train(Serial(), validate(config, "test"), directory=local, progress="none")
    refused([], "'local' shares nothing", of=local)
    config = experiment(
        tmp_path / "e", model="logistic", algorithm="fedavg", split=None
    )
    everybody = tmp_path / "fedavg"
    train(Serial(), validate(config, "test"), directory=everybody, progress="none")
    refused([], r"trained all 6 clients .* new_clients=0.2", of=everybody)


def test_the_step_size_is_that_of_the_own_part():
    assert step_size({"lr_personal": 0.1, "lr_shared": 0.5}) == 0.1
    assert step_size({"lr": 0.3, "lr_server": 1.0}) == 0.3
    assert step_size({"rho": 0.3}) is None
