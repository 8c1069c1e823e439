"""A task of a user's, from one file: trained, evaluated, in records and tables."""

import csv
import json
from pathlib import Path

import pytest

from fedapm_mpi.analysis.client_model import load_client_model
from fedapm_mpi.analysis.comparison import read_runs, table_rows
from fedapm_mpi.cli import main as cli
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.plugins import errors as plugin_errors
from fedapm_mpi.tasks import MetricSet
from fedapm_mpi.tasks.classification import Classification
from fedapm_mpi.tracking.metric_set import read_metric_set
from fedapm_mpi.training.runner import train
from tests.support.processes.cli_runs import digest_of, experiment, rounds_of
from tests.support.tasks import TOP2


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugin_errors, "LOADED", [])


def written(text, name="my_task.py"):
    Path(name).write_text(text)
    return f"./{name}"


def config(toy, name, **options):
    task = {"name": name, **options}
    return validate(experiment(toy["features"], task=task), "test")


@pytest.fixture
def run(toy, tmp_path, capsys):
    directory = tmp_path / "run"
    task = config(toy, written(TOP2) + ":Top2", margin=0.5)
    assert train(Serial(), task, directory=directory) == 0
    return directory, capsys.readouterr().out


def test_it_is_trained_and_stands_in_records_summary_and_tables(run, toy, tmp_path):
    directory, printed = run
    last = rounds_of(directory)[-1]
    assert 0 <= last["top2"] <= 1
    assert last["miss"] == pytest.approx(1 - last["top2"])
    assert last["miss_worst_decile"] >= last["miss"]
    assert set(last["pooled"]) == {"loss", "top2", "miss", "samples", "clients"}
    assert not {"accuracy", "one_class_clients"} & set(last)
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["top2"]["last"] == last["top2"]
    assert summary["miss"]["best"] == min(
        r["miss"] for r in rounds_of(directory)[1:] if "miss" in r
    )
    with (directory / "clients.csv").open(newline="") as file:
        header = next(csv.reader(file))
    assert header[4:] == ["loss", "top2", "miss", "evaluated_samples"]
    assert f"top2 {last['top2']:.4f}" in printed  # the line of the round
    for metric in ("loss", "top2", "miss"):
        assert any(line.split()[1:2] == [metric] for line in printed.splitlines())
    other = config(toy, "classification")
    train(Serial(), other, directory=tmp_path / "other", progress="none")
    assert digest_of(tmp_path / "other") != digest_of(directory)


def test_its_results_are_read_without_its_code(run, toy, tmp_path, capsys):
    directory, _ = run
    Path("my_task.py").unlink()
    assert read_metric_set(directory).headline == "top2"
    (one,) = read_runs([directory])
    assert [row[0] for row in table_rows([one])] == ["top2", "miss", "loss"]
    train(
        Serial(), config(toy, "classification"), directory=tmp_path / "b",
        progress="none",
    )  # fmt: skip
    assert cli.main(["report", str(directory), str(tmp_path / "b")]) == 0
    printed = capsys.readouterr().out
    assert "loss, client by client" in printed  # all that both have
    assert "top2" in printed
    assert "accuracy" in printed


def test_a_run_resumes_and_its_model_is_loaded(run, toy):
    directory, _ = run
    longer = config(toy, "./my_task.py:Top2", margin=0.5)
    assert train(Serial(), longer, directory=directory, resume=True) == 0
    load_client_model(directory, 0)
    wider = config(toy, "./my_task.py:Top2", margin=0.75)
    with pytest.raises(ConfigError, match=r"task\.margin: 0\.5 -> 0\.75"):
        train(Serial(), wider, directory=directory, resume=True)


def test_what_a_run_directory_states_of_metrics_is_checked(tmp_path):
    known = Classification().metric_set()
    plain = json.loads(json.dumps(known.plain()))
    assert MetricSet.from_plain(plain) == known
    for change in (
        {"headline": "none"}, {"partial": "auroc"}, {"higher_is_better": {"a": True}},
        {"bounds": {"loss": 3}}, {"displayed": None},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="metrics"):
            MetricSet.from_plain(plain | change)
    assert read_metric_set(tmp_path) == known  # of an old run
