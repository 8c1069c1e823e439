"""The table of a sweep's results."""

import csv
from pathlib import Path

import pytest
import yaml

from fedapm_mpi.cli.main import main
from fedapm_mpi.studies.sweep.grid import (
    read_sweep,
)
from tests.support.processes.cli_runs import experiment, write_config

ONE_RUN = {"rounds": 1, "evaluation": {"every": 1}}


@pytest.fixture
def folder(toy, tmp_path, monkeypatch):
    """Work in a folder with a configuration of one round."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path / "c.yaml", experiment(toy["features"], **ONE_RUN))
    return tmp_path


def table(folder, name="sweep.csv"):
    return list(csv.DictReader(Path(folder, name).read_text().splitlines()))


def written(folder, **values):
    path = folder / "sweep.yaml"
    text = yaml.safe_dump({"config": "c.yaml", **values}, sort_keys=False)
    path.write_text(text)
    return path


def test_a_run_that_was_killed_as_it_wrote_does_not_spoil_the_table(folder, capfd):
    path = written(folder, grid={"evaluation.split": ["test", "train"]})
    assert main(["sweep", "run", str(path)]) == 0
    assert "Clients' own test or training parts" in capfd.readouterr().out
    run = read_sweep(path)[0][1].run
    (run / "final" / "digest.txt").unlink()
    rounds = run / "rounds.jsonl"
    rounds.write_text(rounds.read_text()[:-20])
    assert main(["sweep", "table", str(path)]) == 0
    states = [line["state"] for line in table("runs/sweep")]
    assert states == ["finished", "not finished"]


def test_a_table_of_nothing_is_refused(folder, capfd):
    assert main(["sweep", "table", str(written(folder, grid={"seed": [1]}))]) == 2
    assert "no cell of" in capfd.readouterr().err


def test_variants_of_models_have_columns(folder, capfd):
    grid = {"evaluation.shared_block": ["server", "both"]}
    assert main(["sweep", "run", str(written(folder, grid=grid))]) == 0
    capfd.readouterr()
    assert main(["sweep", "table", str(folder / "sweep.yaml")]) == 0
    server, both = table("runs/sweep")
    assert server["accuracy_mean"] == both["accuracy_mean"] != ""
    assert server["client_copy_accuracy_mean"] == ""
    assert 0 <= float(both["client_copy_accuracy_mean"]) <= 1
