"""Every aggregate over clients says over how many of them it is."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from fedapm_mpi.analysis.comparison import COLUMNS, notes, read_runs, table_rows
from fedapm_mpi.analysis.plots import draw_clients
from fedapm_mpi.cli import main as cli
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.tasks.classification import Classification
from fedapm_mpi.tracking.loggers.progress import format_metrics
from fedapm_mpi.tracking.summary import remarks, summarize_run
from fedapm_mpi.training.runner import train
from fedapm_mpi.utils.statistics import worst_decile_size
from tests.support.data import toy_data
from tests.support.data.written_runs import write_run
from tests.support.processes.cli_runs import experiment, rounds_of


def trained(data, directory, **changes):
    values = experiment(data, **({"evaluation": {"every": 1}} | changes))
    config = validate(values, "test")
    assert train(Serial(), config, directory=directory, progress="lines") == 0
    summary = json.loads((directory / "summary.json").read_text())
    with (directory / "clients.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return rounds_of(directory), summary, rows


@pytest.fixture(scope="module")
def one_of_eight(tmp_path_factory):
    """Return a data set in which client 0 alone has test samples."""
    folder = tmp_path_factory.mktemp("counts") / "data"
    toy_data.write_features(folder, untested=list(range(1, 8)))
    return folder


def test_figures_of_one_client_say_so(one_of_eight, tmp_path, capsys):
    records, summary, rows = trained(one_of_eight, tmp_path / "run")
    for record in records:
        assert (record["clients"], record["num_clients"]) == (1, 8)
        assert record["worst_decile_clients"] == 1
        assert record["accuracy_worst_decile"] == record["accuracy"]
        assert record["accuracy_std"] is None  # 0 would say that all are alike
        assert record["pooled"]["clients"] == 1
        assert record["pooled"]["samples"] == int(rows[0]["test_samples"])
    assert (summary["clients"], summary["num_clients"]) == (1, 8)
    accuracy = summary["accuracy"]
    assert accuracy["last_clients"] == accuracy["best_clients"] == 1
    assert accuracy["last_worst_decile_clients"] == 1
    assert accuracy["mean_of_last_ten_evaluations"] == 3
    assert accuracy["mean_of_last_ten_most_clients"] == 1
    assert accuracy["last_std"] is None
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("round ")]
    assert len(lines) == 4
    assert all("(1 of 8 clients)" in line for line in lines)
    assert all("(1 client)" in line for line in lines)  # of the worst decile
    assert "(4 clients)" in lines[1]  # of the training loss
    assert "the last evaluation is over 1 of 8 clients" in printed
    assert "mean of last 3" in printed
    assert cli.main(["report", str(tmp_path / "run")]) == 0
    assert "1 of 8" in capsys.readouterr().out
    with (tmp_path / "run/report/comparison.csv").open(newline="") as file:
        cells = next(r for r in csv.DictReader(file) if r["metric"] == "accuracy")
    assert (cells["clients"], cells["num_clients"]) == ("1", "8")
    assert (cells["worst_decile_clients"], cells["std"]) == ("1", "")
    assert "fedapm (1 of 8 clients)" in (tmp_path / "run/report/curves.svg").read_text()
    drawn = (tmp_path / "run/report/clients.svg").read_text()
    assert "mean over 1 client)" in drawn


def test_a_metric_that_some_clients_do_not_have_has_its_own_number(tmp_path):
    """Client 2 of the toy data has one class, so no AUROC; client 3 no samples."""
    folder = tmp_path / "data"
    toy_data.write_features(folder, constant=[2], untested=[3])
    records, summary, rows = trained(folder, tmp_path / "run")
    known = [row["auroc"] != "" for row in rows]
    assert sum(known) < 7
    assert all(record["clients"] == 7 for record in records)
    assert all(record["auroc_clients"] == sum(known) for record in records)
    assert summary["auroc"]["last_clients"] == sum(known)
    assert summary["accuracy"]["last_clients"] == 7
    mean = np.mean([float(row["auroc"]) for row in rows if row["auroc"]])
    assert records[-1]["auroc"] == pytest.approx(mean)


def test_the_part_that_was_evaluated_is_counted(toy, tmp_path):
    evaluation = {"every": 1, "split": "train"}
    records, _, rows = trained(toy["odd"], tmp_path / "run", evaluation=evaluation)
    assert {record["evaluated_split"] for record in records} == {"train"}
    assert "loss after training " in format_metrics(records[-1], "accuracy")
    assert "test loss" not in format_metrics(records[-1], "accuracy")
    assert "val loss " in format_metrics(
        records[-1] | {"evaluated_split": "val"}, "accuracy"
    )
    assert [row["evaluated_samples"] for row in rows] == [
        row["train_samples"] for row in rows
    ]
    assert rows[3]["test_samples"] == "0" != rows[3]["evaluated_samples"]


@pytest.mark.parametrize(
    ("clients", "worst"), [(0, 0), (1, 1), (10, 1), (11, 2), (20, 2), (101, 11)]
)
def test_the_worst_decile_is_rounded_up_to_whole_clients(clients, worst):
    assert worst_decile_size(clients) == worst


def test_a_round_without_participants_is_counted_and_reported(toy, tmp_path, capsys):
    hardly_any = {"name": "probability", "probability": [0.0] * 7 + [0.01]}
    records, summary, _ = trained(
        toy["features"], tmp_path / "run", participation=hardly_any
    )
    empty = sum(record.get("num_participants") == 0 for record in records)
    assert empty == 3
    assert summary["empty_rounds"] == 3
    assert summary["coverage"] == 0
    assert records[-1]["train_loss"] is None
    printed = capsys.readouterr().out
    assert printed.count("no participants") == 3
    assert "note: no client took part in 3 of 3 rounds" in printed
    assert "note: 8 of 8 clients never took part" in printed


def test_models_that_predict_one_class_are_reported(tmp_path, capsys):
    """Not those of clients that have one class, or no sample."""
    folder = tmp_path / "data"
    toy_data.write_features(folder, constant=[2], untested=[3])
    blind = {"lr_personal": 1e-9, "lr_shared": 1e-9}
    algorithm = experiment(folder)["algorithm"] | blind
    model = {"name": "user_parts:constant"}
    records, summary, rows = trained(
        folder, tmp_path / "run", algorithm=algorithm, model=model,
        split={"personal": ["1.*"]},
    )  # fmt: skip
    several = sum(int(row["label_classes"]) > 1 for row in rows)
    assert 0 < several < 7
    assert [row["predicted_classes"] for row in rows] == ["1"] * 3 + ["0"] + ["1"] * 4
    assert records[-1]["one_class_clients"] == several
    assert records[-1]["clients_with_classes"] == several
    assert summary["one_class_clients"] == several
    printed = capsys.readouterr().out
    assert (
        f"the models of {several} of {several} clients predict the same class"
        in printed
    )
    assert records[-1]["one_class_most_samples"] == max(
        int(row["evaluated_samples"]) for row in rows if int(row["label_classes"]) > 1
    )
    assert "shift=standardise" in printed


def test_runs_over_other_numbers_of_clients_are_not_compared_without_a_word(tmp_path):
    first, second = (write_run(tmp_path / name) for name in ("a", "b"))
    add_counts(first, clients=3, num_clients=4)
    add_counts(second, clients=4, num_clients=4)
    runs = read_runs([first, second])
    (line,) = (s for s in notes(runs) if "different numbers" in s)
    assert "a 3 of 4, b 4 of 4" in line
    evaluation = replace(runs[0].config.evaluation, split="val")
    runs[0].config = replace(runs[0].config, evaluation=evaluation)
    draw_clients(runs, tmp_path / "drawn")
    assert "own validation or test part" in (tmp_path / "drawn.svg").read_text()
    rows = [dict(zip(COLUMNS, row[2:], strict=True)) for row in table_rows(runs)]
    assert [row["clients"] for row in rows[:2]] == ["3 of 4", "4 of 4"]


def test_records_of_before_there_were_counts_are_read(tmp_path):
    runs = read_runs([write_run(tmp_path / "run")])
    assert runs[0].evaluated() == ""
    assert remarks(runs[0].summary, "accuracy", 4) == []
    assert {row[2 + list(COLUMNS).index("clients")] for row in table_rows(runs)} == {
        None
    }
    old = {"train_loss": 1.0, "loss": 0.5, "accuracy": 0.25, "f1": 0.0}
    shown = format_metrics(old | {"accuracy_worst_decile": 0.0}, "accuracy")
    assert "client" not in shown
    assert "accuracy 0.2500" in shown


def test_a_loss_of_zero_is_an_evaluation_too(tmp_path):
    (run,) = read_runs([write_run(tmp_path / "run")])
    run.records = [{"round": t, "loss": 0.0, "clients": 3} for t in (1, 2)]
    assert run.evaluated() == "3"
    run.records.append({"round": 3, "clients": 9})
    assert run.evaluated() == "3"


def test_means_over_evaluations_of_changing_clients_are_reported():
    def record(t, accuracy, clients):
        counts = {"clients": clients, "worst_decile_clients": 1, "num_clients": 9}
        return {"round": t, "loss": 1.0, "accuracy": accuracy, **counts}

    summary = summarize_run(
        [record(1, 0.9, 1), record(2, 0.5, 4), record(3, 0.4, 9)],
        Classification().metric_set(),
    )
    accuracy = summary["accuracy"]
    assert (accuracy["best"], accuracy["best_clients"]) == (0.9, 1)
    assert accuracy["mean_of_last_ten_fewest_clients"] == 1
    assert accuracy["mean_of_last_ten_most_clients"] == 9
    reported = remarks(summary, "accuracy", 9)
    assert "the mean of the last 3 evaluations is over 1 to 9 clients" in reported
    assert "the best accuracy is over 1 of 9 clients" in reported


def add_counts(run, **counts):
    path = run / "rounds.jsonl"
    records = [json.loads(line) | counts for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
