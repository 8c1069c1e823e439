"""Loggers get the record of every round; a user adds his own in a single file."""

import csv
import json

import pytest
import yaml

from fedapm_mpi.config.loader import validate
from fedapm_mpi.config.plugin_sources import user_plugin_names
from fedapm_mpi.plugins.errors import PluginError
from fedapm_mpi.tracking.base import LoggerList, MetricsLogger, loggers
from tests.support.processes.cli_runs import digest_of, experiment, rounds_of
from tests.support.user_loggers import CSV_LOGGER, run


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


def test_known_loggers():
    assert loggers.names() == ["jsonl", "progress"]


class Noting(MetricsLogger):
    """Notes what is done with it, and fails where it has to."""

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
