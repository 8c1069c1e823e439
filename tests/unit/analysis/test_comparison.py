"""The report, on run directories written by hand."""

import pytest

from fedapm_mpi.analysis.comparison import COLUMNS, notes, table_rows
from fedapm_mpi.analysis.run_data import read_runs
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
