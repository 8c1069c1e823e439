"""The report, on run directories written by hand."""

import csv
import json
import sys

import pytest

from fedapm_mpi.analysis.comparison import COLUMNS, notes, read_runs, table_rows
from fedapm_mpi.cli import main as cli
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.tasks.classification import Classification

HIGHER_IS_BETTER = Classification.metric_set().higher_is_better

SHA = "a" * 64
CLIENTS = (0.5, 0.75, float("nan"), 1.0)
"""Accuracy of each client; one has no test sample."""


@pytest.fixture(autouse=True)
def _outside_a_terminal(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)


def write_run(
    directory,
    *,
    algorithm="fedapm",
    sha256=SHA,
    accuracies=(0.1, 0.5, 0.9, 0.8),
    rounds=3,
    clients=CLIENTS,
):
    """Write what training leaves, with an evaluation of every round from 0 on."""
    directory.mkdir(parents=True)
    config = {
        "data": "data/toy",
        "model": {"name": "mlp"},
        "algorithm": {"name": algorithm},
        "rounds": rounds,
        "split": None,
        "evaluation": {"every": 1, "shared": "server", "pooled": False},
        "checkpoint": {"every": 10, "keep": 2},
    }
    # YAML holds JSON.
    (directory / "config.yaml").write_text(json.dumps(config))
    manifest = {"directory": "data/toy", "dataset": "toy", "sha256": sha256}
    (directory / "provenance.json").write_text(json.dumps({"manifest": manifest}))
    records = [_record(t, value, algorithm) for t, value in enumerate(accuracies)]
    lines = [json.dumps(record) + "\n" for record in records]
    (directory / "rounds.jsonl").write_text("".join(lines))
    with (directory / "clients.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["client", "name", "train_samples", "test_samples", *HIGHER_IS_BETTER]
        )
        for i, value in enumerate(clients):
            cells = ["" if value != value else value] * len(HIGHER_IS_BETTER)
            writer.writerow([i, f"person {i}", 10, 5, *cells])
    return directory


def _record(t, accuracy, algorithm):
    record = {"round": t, "primal_residual": 0.0}
    if t:
        record |= {"train_loss": 1 - accuracy / 2, "rho": None, "dual_residual": None}
        if algorithm == "fedapm":
            record |= {"rho": 0.1, "dual_residual": 0.1**t, "primal_residual": 0.2**t}
    for metric, higher in HIGHER_IS_BETTER.items():
        value = accuracy if higher else 1 - accuracy
        record |= {
            metric: value,
            f"{metric}_std": 0.01,
            f"{metric}_worst_decile": value / 2,
        }
    return record


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


def test_runs_stand_side_by_side_and_files_are_written(tmp_path, capsys):
    first = write_run(tmp_path / "a")
    second = write_run(tmp_path / "b", algorithm="local", clients=(0.4, 0.9, 1.0, 1.0))
    folder = tmp_path / "new" / "folder"
    assert cli.main(["report", str(first), str(second), "--to", str(folder)]) == 0
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
        cli.main(["report", str(first), str(second), "--to", str(tmp_path / "to")]) == 0
    )
    assert "better than local for 1 of 2, worse for 1" in capsys.readouterr().out
    drawn = (tmp_path / "to" / "clients.svg").read_text()
    assert "person 1" in drawn
    assert "person 0" not in drawn


def test_a_single_run_is_reported_into_its_own_folder(tmp_path):
    run = write_run(tmp_path / "run")
    assert cli.main(["report", str(run)]) == 0
    assert (run / "report" / "curves.svg").exists()


def test_the_same_runs_give_the_same_files(tmp_path):
    run = write_run(tmp_path / "run")
    for name in ("one", "two"):
        assert cli.main(["report", str(run), "--to", str(tmp_path / name)]) == 0
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_many_clients_are_not_named(tmp_path):
    many = [k / 100 for k in range(100)]
    run = write_run(tmp_path / "run", clients=many)
    assert cli.main(["report", str(run)]) == 0
    text = (run / "report" / "clients.svg").read_text()
    assert "person 3" not in text
    assert "sorted" in text


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


def test_an_unfinished_run_is_reported_as_such(tmp_path):
    run = write_run(tmp_path / "run", rounds=100)
    (line,) = notes(read_runs([run]))
    assert "round 3 of 100" in line
    assert "--resume" in line


def test_a_run_without_an_evaluation_has_no_figures_of_it(tmp_path, capsys):
    run = write_run(tmp_path / "run", accuracies=())
    (run / "clients.csv").unlink()
    assert cli.main(["report", str(run)]) == 0
    assert "not evaluated yet" in capsys.readouterr().out
    assert not (run / "report" / "clients.png").exists()


def test_without_matplotlib_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    from fedapm_mpi.analysis.plots import draw_curves

    run = write_run(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match="pip install"):
        draw_curves(read_runs([run]), tmp_path / "curves")
    assert cli.main(["report", str(run)]) == 2
