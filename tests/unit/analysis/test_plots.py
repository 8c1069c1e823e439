"""Figures of runs: the same bytes for the same runs, and many clients."""

import sys

import pytest

from fedapm_mpi.analysis.comparison import read_runs
from fedapm_mpi.cli import main as cli
from fedapm_mpi.errors import ConfigError
from tests.support.data.written_runs import write_run


@pytest.fixture(autouse=True)
def _outside_a_terminal(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)


def test_the_same_runs_give_the_same_files(tmp_path):
    run = write_run(tmp_path / "run")
    for name in ("one", "two"):
        assert cli.main(["report", str(run), "--out", str(tmp_path / name)]) == 0
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_many_clients_are_not_named(tmp_path):
    many = [k / 100 for k in range(100)]
    run = write_run(tmp_path / "run", clients=many)
    assert cli.main(["report", str(run)]) == 0
    text = (run / "report" / "clients.svg").read_text()
    assert "person 3" not in text
    assert "sorted" in text


def test_without_matplotlib_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    from fedapm_mpi.analysis.plots import draw_curves

    run = write_run(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match="pip install"):
        draw_curves(read_runs([run]), tmp_path / "curves")
    assert cli.main(["report", str(run)]) == 2
