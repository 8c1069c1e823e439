"""The summary of a run: best, last, and the mean of the last evaluations."""

import pytest

from fedapm_mpi.tasks.classification import Classification
from fedapm_mpi.tracking.summary import summarize_run

METRICS = Classification.metric_set()


def record(t: int, accuracy: float) -> dict[str, object]:
    return {"round": t, "loss": 1 - accuracy, "accuracy": accuracy}


def test_the_summary_leaves_the_untrained_model_out():
    records = [
        record(0, 0.9),
        record(1, 0.2),
        {"round": 2},
        record(3, 0.6),
        record(4, 0.4),
    ]
    summary = summarize_run(records, METRICS)
    assert summary["accuracy"]["best"] == 0.6
    assert summary["accuracy"]["best_round"] == 3
    assert summary["accuracy"]["last"] == 0.4
    assert summary["accuracy"]["mean_of_last_ten"] == pytest.approx(0.4)
    assert summary["loss"]["best"] == pytest.approx(0.4)
    assert summary["evaluations"] == 3


def test_the_mean_is_of_ten_evaluations():
    summary = summarize_run([record(t, t / 100) for t in range(30)], METRICS)
    assert summary["accuracy"]["mean_of_last_ten"] == pytest.approx(0.245)


def test_a_run_without_evaluation_has_a_summary():
    assert summarize_run([{"round": 0}], METRICS) == {
        "rounds": 0, "evaluations": 0, "missing_rounds": "", "num_missing_rounds": 0,
    }  # fmt: skip
