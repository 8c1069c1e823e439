"""The report, on run directories written by hand."""

import csv
import json

import pytest

from fedapm_mpi.analysis.comparison import (
    COLUMNS,
    notes,
    read_runs,
    table_rows,
    write_comparison,
)
from fedapm_mpi.cli import main as cli
from fedapm_mpi.errors import DataError
from tests.support.data.written_runs import write_run


@pytest.fixture(autouse=True)
def _outside_a_terminal(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)


def test_the_table_says_last_worst_mean_and_best(tmp_path):
    rows = table_rows(read_runs([write_run(tmp_path / "run")]))
    by_metric = {row[0]: dict(zip(COLUMNS, row[2:], strict=True)) for row in rows}
    accuracy, loss = by_metric["accuracy"], by_metric["loss"]
    assert accuracy["mean"] == 0.8
    assert accuracy["worst_decile"] == 0.4
    assert accuracy["mean_of_last_10"] == pytest.approx((0.5 + 0.9 + 0.8) / 3)
    assert (accuracy["best"], accuracy["best_round"]) == (0.9, 2)
    assert loss["best"] == pytest.approx(0.1)  # the lowest, not the highest
    assert {row[1] for row in rows} == {"fedapm"}


def test_an_unfinished_run_is_reported_as_such(tmp_path):
    run = write_run(tmp_path / "run", rounds=100)
    (line,) = notes(read_runs([run]))
    assert "round 3 of 100" in line
    assert "--resume" in line


def test_labels_distinguish_runs_of_one_algorithm(tmp_path):
    runs = [write_run(tmp_path / name) for name in ("low", "high")]
    assert [run.label for run in read_runs(runs)] == ["low", "high"]
    deep = [write_run(tmp_path / str(k) / "run") for k in range(2)]
    assert [run.label for run in read_runs(deep)] == [str(path) for path in deep]


def test_runs_on_different_data_are_refused(tmp_path):
    first = write_run(tmp_path / "a")
    second = write_run(tmp_path / "b", sha256="b" * 64)
    with pytest.raises(DataError, match="different data"):
        read_runs([first, second])
    assert cli.main(["report", str(first), str(second)]) == 3


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="not a run directory"):
        read_runs([tmp_path])


def test_variants_of_models_are_rows_of_the_file(tmp_path):
    """Of the runs that have them."""
    runs = [write_run(tmp_path / name) for name in ("both", "one")]
    path = runs[0] / "rounds.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        record["client_copy"] = {"loss": 0.5, "accuracy": record["accuracy"] / 2}
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    found = read_runs(runs)
    assert len(table_rows(found)) == len(table_rows(found[1:])) * 2
    write_comparison(tmp_path / "found.csv", found)
    with (tmp_path / "found.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    own = [row for row in rows if row["metric"].startswith("client_copy_")]
    assert [row["metric"] for row in own] == [
        f"client_copy_{metric}" for metric in found[0].metrics.names
    ]
    assert {row["run"] for row in own} == {"both"}
    (accuracy,) = (row for row in own if row["metric"] == "client_copy_accuracy")
    assert (accuracy["mean"], accuracy["best_round"]) == ("0.4", "2")


def test_clients_have_the_metrics_of_variants(tmp_path):
    (run,) = read_runs([write_run(tmp_path / "run")])
    path = run.path / "clients.csv"
    header, *rows = path.read_text().splitlines()
    header += ",client_copy_accuracy,client_copy_predicted_classes"
    rows = [f"{row},0.25,2" for row in rows]
    path.write_text("\n".join([header, *rows]) + "\n")
    assert [row["client_copy_accuracy"] for row in run.clients] == [0.25] * len(rows)
    assert "client_copy_predicted_classes" not in run.clients[0]
