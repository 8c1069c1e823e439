"""What a report reads of runs, and what it refuses."""

import pytest

from fedapm_mpi.analysis.run_data import read_runs
from fedapm_mpi.cli import main as cli
from fedapm_mpi.errors import DataError
from tests.support.data.written_runs import write_run


@pytest.fixture(autouse=True)
def _outside_a_terminal(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)


def test_labels_tell_runs_of_one_algorithm_apart(tmp_path):
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
