"""``fedapm report`` from end to end, on run directories written by hand."""

import csv

import pytest

from fedapm_mpi.cli import main as cli
from tests.support.data.written_runs import HIGHER_IS_BETTER, write_run


@pytest.fixture(autouse=True)
def _outside_a_terminal(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)


def test_runs_stand_side_by_side_and_files_are_written(tmp_path, capsys):
    first = write_run(tmp_path / "a")
    second = write_run(tmp_path / "b", algorithm="local", clients=(0.4, 0.9, 1.0, 1.0))
    folder = tmp_path / "new" / "folder"
    assert cli.main(["report", str(first), str(second), "--out", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "fedapm is better than local for 1 of 4, worse for 1" in printed
    assert "0.8000" in printed
    assert sorted(path.name for path in folder.iterdir()) == [
        "clients.png",
        "clients.svg",
        "comparison.csv",
        "curves.png",
        "curves.svg",
    ]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    with (folder / "comparison.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 2 * len(HIGHER_IS_BETTER)
    cell = next(r for r in table if (r["run"], r["metric"]) == ("local", "accuracy"))
    assert float(cell["mean"]) == 0.8
    assert float(cell["worst_decile"]) == 0.4


def test_runs_that_evaluated_other_clients(tmp_path, capsys):
    """They are compared, and drawn, on those that both evaluated."""
    first = write_run(tmp_path / "a", clients=(0.9, 0.1, 0.8, 0.7))
    second = write_run(tmp_path / "b", algorithm="local", clients=(0.2, 0.3, 0.4, 0.5))
    for run, dropped in ((first, 0), (second, 3)):
        path = run / "clients.csv"
        lines = path.read_text().splitlines()
        path.write_text("\n".join(lines[: dropped + 1] + lines[dropped + 2 :]))
    assert (
        cli.main(["report", str(first), str(second), "--out", str(tmp_path / "to")])
        == 0
    )
    assert "better than local for 1 of 2, worse for 1" in capsys.readouterr().out
    drawn = (tmp_path / "to" / "clients.svg").read_text()
    assert "person 1" in drawn
    assert "person 0" not in drawn


def test_a_single_run_is_reported_into_its_own_folder(tmp_path):
    run = write_run(tmp_path / "run")
    assert cli.main(["report", str(run)]) == 0
    assert (run / "report" / "curves.svg").exists()


def test_a_run_without_an_evaluation_has_no_figures_of_it(tmp_path, capsys):
    run = write_run(tmp_path / "run", accuracies=())
    (run / "clients.csv").unlink()
    assert cli.main(["report", str(run)]) == 0
    assert "not evaluated yet" in capsys.readouterr().out
    assert not (run / "report" / "clients.png").exists()
