"""``fedapm tune`` on one process."""

import csv
import os
import signal
from pathlib import Path

import pytest
import yaml

from fedapm_mpi.cli import tune
from fedapm_mpi.cli.main import main
from fedapm_mpi.errors import EXIT_RESUMABLE
from fedapm_mpi.studies.tune.trials import Ended
from tests.support.processes.cli_runs import write_config
from tests.support.tuning import values_of, write_data

SPACE = {"optimizer": ["adam", None], "split": ["biases", "nothing", "all"]}
SMALL = ["--trials", "4", "--width", "2", "--rungs", "1/2,1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("tuning"))


@pytest.fixture
def folder(data, tmp_path, monkeypatch):
    """Work in a folder with a configuration and a space."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path / "c.yaml", values_of(data, rounds=4))
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    return tmp_path


def table(out):
    with Path(out, "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_search_ends_with_what_was_chosen(folder, capfd):
    words = ["tune", "c.yaml", "--space", "space.yaml", *SMALL]
    assert main([*words, "--out", "here"]) == 0
    last = capfd.readouterr().out.splitlines()[-1]
    assert "of 4 is the best: accuracy" in last
    assert last.endswith("next: fedapm train here/best.yaml")
    assert {row["optimizer"] for row in table("here")} <= {"adam", "sgd"}
    # Again: nothing is trained, and the same is reported.
    before = {p: p.stat().st_mtime_ns for p in Path("here").rglob("rounds.jsonl")}
    assert main([*words, "--out", "here"]) == 0
    assert capfd.readouterr().out.splitlines() == [last]
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_values_of_the_configuration_are_replaced(folder):
    assert main(["tune", "c.yaml", "rounds=2", "seed=5", *SMALL, "--trials", "1"]) == 0
    assert yaml.safe_load(Path("runs/c/best.yaml").read_text())["seed"] == 5
    assert len(table("runs/c")) == 1


def test_a_signal_stops_it_and_the_same_command_continues(folder, capfd, monkeypatch):
    words = ["tune", "c.yaml", *SMALL]
    assert main([*words, "--out", "unbroken"]) == 0
    from fedapm_mpi.studies.tune import trials

    calls, here = [], trials.train_here

    def interrupted(values, run, stop):
        calls.append(run)
        if len(calls) in (2, 5):
            os.kill(os.getpid(), signal.SIGTERM)  # in the middle of this run
        return here(values, run, stop)

    monkeypatch.setattr(trials, "train_here", interrupted)
    capfd.readouterr()
    for _ in range(2):
        assert main([*words, "--out", "broken"]) == EXIT_RESUMABLE
        assert capfd.readouterr().out.splitlines()[-1] == tune.AGAIN
    assert main([*words, "--out", "broken"]) == 0
    for name in ("trials.csv", "best.yaml"):
        assert Path("broken", name).read_text() == Path("unbroken", name).read_text()


def test_a_run_that_ends_otherwise_ends_the_search(folder, monkeypatch, capfd):
    from fedapm_mpi.studies.tune import trials

    monkeypatch.setattr(trials, "train_here", lambda *args: Ended(137))
    assert main(["tune", "c.yaml", *SMALL]) == 137
    assert "no fault of its configuration" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected", "code"),
    [
        ([], "name the configuration to begin with", 2),
        (["c.yaml", "--trials", "0"], "--trials and --width must be at least 1", 2),
        (["c.yaml", "--rungs", "1/2"], "--rungs must be shares that ascend", 2),
        (["c.yaml", "--rungs", "a,1"], "--rungs: 'a' is no share", 2),
        (["c.yaml", "--keep", "2"], "--keep must be a share between 0 and 1", 2),
        (["c.yaml", "--seed", "-1"], "--seed must be at least 0", 2),
        (["c.yaml", "--passes", "0"], "--passes must be above 0", 2),
        (["c.yaml", "--passes", "0.5"], "none of the first 8 trials could be", 2),
        (["c.yaml", "--metric", "loos"], "did you mean 'loss'?", 2),
        (["c.yaml", "--space", "none.yaml"], "none.yaml: No such file", 2),
        (["c.yaml", "-n", "0"], "-n must be at least 1", 2),
        (["c.yaml", "algorithm.roh=1"], "did you mean 'rho'?", 2),
        (["c.yaml", "data=nowhere"], "nowhere", 3),
    ],
)
def test_what_is_wrong_is_reported_before_anything_is_trained(
    folder, capfd, words, expected, code
):
    assert main(["tune", *words]) == code
    assert expected in capfd.readouterr().err
    assert not list(folder.rglob("rounds.jsonl"))


def test_the_space_is_printed_as_a_file_has_it(folder, capfd):
    assert main(["tune", "c.yaml", "--print-space"]) == 0
    text = capfd.readouterr().out
    found = yaml.safe_load(text)
    assert found["split"][:2] == ["head", "nothing"]  # what is configured is first
    assert found["algorithm.rho"] == {"low": 0.01, "high": 3.0, "log": True}
    Path("whole.yaml").write_text(text)
    assert main(["tune", "c.yaml", "--print-space", "--space", "whole.yaml"]) == 0
    assert capfd.readouterr().out == text
    assert not Path("runs").exists()
