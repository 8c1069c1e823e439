"""The command line of `fedapm evaluate`."""

import json

import numpy as np
import pytest

from fedapm_mpi.cli import evaluate
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.config.yaml_io import parse
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.training.runner import train
from tests.support.preparation import command, prepare
from tests.support.processes.cli_runs import experiment


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a function from an algorithm to a run of it."""
    root = tmp_path_factory.mktemp("evaluate")
    rng = np.random.default_rng(0)
    arrays = {"x_f": rng.normal(size=(60, 2)), "y": rng.integers(0, 2, 60)}
    np.savez(root / "raw.npz", **arrays, client=np.arange(60) % 4)
    prepare("arrays", root / "raw.npz", root / "d", "new_clients=0.25")

    def run(algorithm, **changes):
        folder = root / algorithm
        if not folder.exists():
            values = experiment(root / "d", algorithm=algorithm, **changes)
            wanted = validate(values | {"model": "logistic"}, "test")
            train(Serial(), wanted, directory=folder, progress="none")
        return folder

    return run


SPLIT = {"split": {"personal": ["*.bias"]}}


def test_files_are_in_the_run_unless_a_folder_is_named(trained, tmp_path, capsys):
    run = trained("fedapm", **SPLIT)
    assert command(evaluate, run) == 0
    assert f"written to {run / 'new_clients'}" in capsys.readouterr().out
    command(evaluate, run, "--out", tmp_path / "a" / "b", "--epochs", 2, "--lr", 0.25)
    used = parse((tmp_path / "a" / "b" / "config.yaml").read_text())
    tuning = used["evaluation"]["fine_tune"]
    assert (tuning["block"], tuning["lr"]) == ("personal", 0.25)
    assert tuning["work"]["epochs"] == 2


def test_what_shares_everything_fits_everything(trained, tmp_path):
    run = trained("fedavg", split=None)
    command(evaluate, run, "--out", tmp_path / "out")
    used = parse((tmp_path / "out" / "config.yaml").read_text())
    assert used["evaluation"]["fine_tune"]["block"] == "all"
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["loss"] != summary["before_fine_tuning"]["loss"]


@pytest.mark.parametrize("words", [("--epochs", 0), ("--fit", "none")])
def test_nothing_need_be_fitted(trained, tmp_path, words):
    command(evaluate, trained("fedapm", **SPLIT), "--out", tmp_path / "out", *words)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert "before_fine_tuning" not in summary


def test_refuses(trained, tmp_path):
    run = trained("fedapm", **SPLIT)
    (tmp_path / "file").touch()
    with pytest.raises(FedAPMError, match="file"):
        command(evaluate, run, "--out", tmp_path / "file")
    with pytest.raises(ConfigError, match=r"fine_tune.work.*epochs"):
        command(evaluate, run, "--epochs", -1)
    with pytest.raises(ConfigError, match=r"--lr: iceadmm has no step size"):
        command(evaluate, trained("iceadmm", split=None))
    with pytest.raises(FedAPMError, match="no val"):
        command(evaluate, run, "--part", "val")
