"""``fedapm sweep`` from end to end."""

import csv
from pathlib import Path

import pytest
import yaml

from fedapm_mpi.cli.main import main
from fedapm_mpi.errors import ConfigError
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


def test_trained_gathered_and_skipped(folder, capfd):
    path = written(folder, grid={"seed": [1, 2]}, out="here")
    assert main(["sweep", "run", str(path)]) == 0
    lines = table("here")
    assert [(line["seed"], line["state"], line["rounds"]) for line in lines] == [
        ("1", "finished", "1"), ("2", "finished", "1"),
    ]  # fmt: skip
    for line in lines:
        run = Path("here", line["cell"])
        assert line["digest"] == (run / "final" / "digest.txt").read_text().strip()
        clients = table(run, "clients.csv")
        each = [float(client["accuracy"]) for client in clients]
        assert float(line["accuracy_mean"]) == pytest.approx(sum(each) / len(each))
    capfd.readouterr()
    assert main(["sweep", "run", str(path)]) == 0
    assert capfd.readouterr().out.count("finished before") == 2

    # More rounds: both go on. Another penalty: what is there is not its run.
    write_config(
        Path("c.yaml"), {**yaml.safe_load(Path("c.yaml").read_text()), "rounds": 2}
    )
    assert not any(cell.finished for cell in read_sweep(path)[0])
    config = yaml.safe_load(Path("c.yaml").read_text())
    config["algorithm"]["rho"] = 0.7
    write_config(Path("c.yaml"), config)
    with pytest.raises(ConfigError, match="seed=1 was trained with another config"):
        read_sweep(path)


def test_a_cell_that_fails_is_reported_and_the_others_are_trained(folder, capfd):
    path = written(folder, zip={"scratch": ["nowhere", None], "seed": [1, 2]})
    assert main(["sweep", "run", str(path)]) == 2
    printed = capfd.readouterr()
    assert "1 of 2 runs failed" in printed.out
    assert "nowhere" in printed.err
    lines = table("runs/sweep")
    assert [line["state"] for line in lines] == ["not started", "finished"]
