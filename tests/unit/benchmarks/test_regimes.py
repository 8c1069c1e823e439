"""The study of regimes: its objective, and that duals remove what drift leaves."""

import csv

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks.paper import regimes
from benchmarks.paper.regimes import DECAY, Cell, Objective
from data_prep.pipeline import plan, prepare
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.training.runner import train

CLIENTS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder of two data sets of four unlike clients, named as the study wants them."""
    root = tmp_path_factory.mktemp("regimes")
    for number, beta in enumerate(regimes.REGIMES):
        rng = np.random.default_rng(number)
        y = rng.integers(0, 3, 240)
        x = rng.normal(size=(240, 3)) + np.eye(3)[y]
        client = (y + (rng.random(240) < 0.4)) % CLIENTS
        raw = root / f"{beta}.npz"
        np.savez(raw, x_features=x.astype(np.float32), y=y, client=client)
        prepare(plan("arrays", {"test": 0.2}), raw, root / f"regimes-b{beta}")
    return root


@pytest.fixture(scope="module")
def objective(data):
    return Objective(str(data / "regimes-b0.5"))


def by_autograd(folder, biases, weights):
    """Return F and its gradients from torch, and from the samples directly."""
    manifest = read_manifest(folder)
    reader = ShardReader(manifest)
    b, w = (torch.tensor(x, requires_grad=True) for x in (biases, weights))
    total = torch.zeros((), dtype=torch.float64)
    for i in range(manifest.num_clients):
        samples = reader.read(i, "train")
        x = torch.tensor(samples.inputs["features"], dtype=torch.float64)
        loss = F.cross_entropy(x @ w.T + b[i], torch.tensor(samples.labels))
        total = total + (loss + DECAY / 2 * ((w**2).sum() + (b[i] ** 2).sum())) / len(b)
    total.backward()
    return total.item(), b.grad.numpy(), w.grad.numpy()


def test_the_objective_is_what_the_package_trains(data, objective):
    rng = np.random.default_rng(5)
    biases, weights = rng.normal(size=(CLIENTS, 3)), rng.normal(size=(3, 3))
    found = objective.value(biases, weights)
    expected = by_autograd(data / "regimes-b0.5", biases, weights)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


def test_the_minimum_is_one(objective):
    """No point around a few random ones, nor one reached by descent, lies below it."""
    least = objective.minimum()
    biases, weights = np.zeros((CLIENTS, 3)), np.zeros((3, 3))
    for _ in range(4000):
        _, slope_b, slope_w = objective.value(biases, weights)
        biases, weights = biases - CLIENTS * 0.3 * slope_b, weights - 0.3 * slope_w
    assert objective.value(biases, weights)[0] == pytest.approx(least, abs=1e-10)


@pytest.mark.parametrize("cell", list(regimes.cells()), ids=lambda cell: cell.name)
def test_every_cell_is_a_valid_configuration(cell):
    config = validate(regimes.configuration(cell, "x"), "test")
    given = {k: v for k, v in config.algorithm.items() if v is not None}
    works = {k: v for k, v in given.items() if k.endswith("work")}
    assert works
    assert all(work["epochs"] == cell.epochs for work in works.values())
    if "rho" in given:
        path = given["rho"] * given["lr_shared"] * cell.epochs
        assert path == pytest.approx(1 if cell.method == "fedapm-preset" else 0.3)


def test_a_small_study(data, tmp_path, monkeypatch):
    """With twenty local epochs FedAPM continues where FedSim stalls.

    At four times the study's step, sixty rounds do for 240.
    """
    methods = ("fedapm-joint", "fedapm-participants", "fedsim")
    wanted = [Cell(0.5, 1.0, 20, method) for method in methods]
    options, configure = regimes.algorithm, regimes.configuration

    def here(config, run, ranks=0):
        assert ranks == 0
        run.parent.mkdir(parents=True, exist_ok=True)
        checked = validate(config, "test")
        train(Serial(), checked, directory=run, progress="none")
        return True

    monkeypatch.setattr(regimes, "cells", lambda: iter(wanted))
    monkeypatch.setattr(regimes, "train", here)
    monkeypatch.setattr(regimes, "algorithm", lambda *given: options(*given, CLIENTS))
    monkeypatch.setattr(regimes, "STEP", 0.4)
    monkeypatch.setattr(
        regimes, "configuration", lambda cell, data: configure(cell, data, 60)
    )
    words = ["--data", str(data), "--out", str(tmp_path), "--to", str(tmp_path / "to")]
    regimes.main(words)

    written = tmp_path / "to" / "regimes"
    rows = list(csv.DictReader((written / "regimes.csv").read_text().splitlines()))
    gaps = {
        method: [float(row["gap"]) for row in rows if row["method"] == method]
        for method in methods
    }
    for method in ("fedapm-joint", "fedapm-participants"):
        assert abs(gaps[method][-1]) < 1e-2 * gaps["fedsim"][-1]
    assert gaps["fedsim"][-1] == pytest.approx(gaps["fedsim"][-2], rel=0.02)
    table = (written / "regimes.md").read_text("utf-8")
    assert "| 0.5 | 100% | 20 | fedsim |" in table
    assert (written / "regimes.png").stat().st_size > 1000
