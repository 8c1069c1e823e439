"""Loggers get the record of every round; a user adds his own in a single file."""

import csv
import json

import pytest
import yaml

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.config.plugin_sources import user_plugin_names
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.plugins.errors import PluginError
from fedapm_mpi.tracking.base import LoggerList, MetricsLogger, loggers
from fedapm_mpi.training.runner import train
from tests.support.processes.cli_runs import digest_of, experiment, rounds_of

CSV_LOGGER = """
import csv

from fedapm_mpi.tracking.base import MetricsLogger


class Csv(MetricsLogger):
    def __init__(self, run, keys, file="metrics.csv"):
        self.file = (run.path / file).open("a" if run.first_round else "w", newline="")
        self.keys, self.writer = keys, csv.writer(self.file)

    def log(self, record, step):
        self.writer.writerow([step, *(record.get(key) for key in self.keys)])

    def close(self):
        self.file.close()


class Failing(Csv):
    def log(self, record, step):
        if step == 1:
            raise ValueError("the tracker does not answer")


class NotClosing(Csv):
    def close(self):
        super().close()
        raise OSError("no space left")


def nothing(run):
    return [run]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CSV_LOGGER)
    return path


def run(toy, directory, *more, progress="lines", resume=False, **changes):
    values = experiment(toy["features"], loggers=["jsonl", "progress", *more])
    config = validate(values | changes, "test")
    return train(
        Serial(), config, directory=directory, progress=progress, resume=resume
    )


def test_a_users_own_logger(toy, tmp_path, file, capsys):
    own = {"name": f"{file}:Csv", "keys": ["train_loss", "drift"]}
    assert run(toy, tmp_path / "run", own) == 0
    with (tmp_path / "run" / "metrics.csv").open(newline="") as found:
        rows = list(csv.reader(found))
    records = rounds_of(tmp_path / "run")
    assert [int(row[0]) for row in rows] == [0, 1, 2, 3]
    assert [r["round"] for r in records] == [0, 1, 2, 3]
    for row, record in zip(rows[1:], records[1:], strict=True):
        assert [float(v) for v in row[1:]] == [record["train_loss"], record["drift"]]
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert saved["loggers"][0] == {"name": "jsonl"}
    assert saved["loggers"][2]["file"] == "metrics.csv"
    assert "round 3/3" in capsys.readouterr().out


def test_loggers_change_no_result_and_may_change_at_resume(toy, tmp_path, file):
    own = {"name": f"{file}:Csv", "keys": ["train_loss"]}
    run(toy, tmp_path / "without")
    run(toy, tmp_path / "run", own, rounds=2)
    identity = json.loads(
        (tmp_path / "run/checkpoints/round-000002/checkpoint.json").read_text()
    )["identity"]
    assert "loggers" not in identity
    assert "own_parts" not in identity
    file.write_text(CSV_LOGGER + "\nCHANGED = True\n")
    assert run(toy, tmp_path / "run", own, resume=True) == 0
    assert digest_of(tmp_path / "run") == digest_of(tmp_path / "without")
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["0", "1", "2", "3"]


def test_a_saved_logger_is_code_that_needs_trust(toy, file):
    own = {"name": f"{file}:Csv", "keys": []}
    values = experiment(toy["features"], loggers=["jsonl", own])
    config = validate(values, "test").plain()
    assert user_plugin_names(config) == [f"{file}:Csv"]
    assert user_plugin_names(config, loggers=False) == []


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Failing", "mine.py:Failing' failed: ValueError: the tracker does not answer"),
        ("NotClosing", "mine.py:NotClosing' failed: OSError: no space left"),
    ],
)
def test_a_logger_that_fails_is_named(toy, tmp_path, file, name, sentence):
    with pytest.raises(PluginError, match=sentence) as caught:
        run(toy, tmp_path / "run", {"name": f"{file}:{name}", "keys": []})
    assert str(caught.value).startswith("logger ")
    assert "mine.py, line" in str(caught.value)


def test_what_is_no_logger_is_refused(toy, tmp_path, file):
    with pytest.raises(ConfigError, match="returned list; it must be, or return, a Me"):
        run(toy, tmp_path / "run", f"{file}:nothing")
    with pytest.raises(ConfigError, match="keys"):
        run(toy, tmp_path / "run", f"{file}:Csv")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([], "jsonl cannot be left out"),
        (["progress"], "jsonl cannot be left out"),
        (["jsonl", "jsonl"], "'jsonl' is named twice"),
        (["jsonl", "progres"], "did you mean 'progress'"),
        (["jsonl", {}], r"loggers\[1\]: needs a name"),
        ([{"name": "jsonl", "file": "x"}], "file"),
        ("jsonl", "loggers"),
    ],
)
def test_loggers_that_cannot_be(toy, given, sentence):
    with pytest.raises(ConfigError, match=sentence):
        validate(experiment(toy["features"], loggers=given), "test")


def test_progress_can_be_left_out(toy, tmp_path, capsys):
    assert run(toy, tmp_path / "run", loggers=["jsonl"]) == 0
    told = capsys.readouterr().out
    assert "round 1/3" not in told
    assert "digest " in told


def test_known_loggers():
    assert loggers.names() == ["jsonl", "progress"]


class Noting(MetricsLogger):
    """Notes what is done with it, and fails where it is told to."""

    def __init__(self, name, notes, failing=False):
        self.name, self.notes, self.failing = name, notes, failing

    def log(self, record, step):
        record["changed"] = True
        self.notes.append((self.name, step, sorted(record)))

    def close(self):
        self.notes.append((self.name, "closed"))
        if self.failing:
            raise ValueError(self.name)


def test_all_are_closed_even_if_one_fails():
    notes = []
    group = LoggerList(
        [
            (None, Noting("a", notes)),
            ("logger 'b'", Noting("b", notes, True)),
            (None, Noting("c", notes)),
        ]
    )
    group.log({"round": 0}, 0)
    assert notes == [(name, 0, ["changed", "round"]) for name in "abc"]
    notes.clear()
    with pytest.raises(PluginError, match="logger 'b' failed: ValueError: b"):
        group.close()
    assert notes == [(name, "closed") for name in "cba"]
