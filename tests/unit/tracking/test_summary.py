"""The summary of a run: best, last, and the mean of the last evaluations."""

import pytest

from fedapm_mpi.tasks.classification import Classification
from fedapm_mpi.tracking.summary import summarize_run

METRICS = Classification().metric_set()


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


def test_variants_have_summaries_of_their_own():
    counts = {"clients": 5, "num_clients": 9, "worst_decile_clients": 1}
    records = [
        record(t, a) | counts | {"client_copy": record(t, b), "before_fine_tuning": c}
        for t, a, b, c in ((0, 0.9, 0.9, {}), (1, 0.4, 0.7, None), (2, 0.5, 0.6, {}))
    ]
    for one in records:
        del one["client_copy"]["round"]
        one["client_copy"]["accuracy_std"] = 0.125
    records[1]["pooled"] = {"loss": 0.5}
    summary = summarize_run(records, METRICS)
    plain = summarize_run(
        [{k: one[k] for k in one if k != "client_copy"} for one in records], METRICS
    )
    own = summary.pop("client_copy")
    assert summary == plain
    assert own.keys() == set(METRICS.names)
    accuracy = own["accuracy"]
    assert (accuracy["best"], accuracy["best_round"], accuracy["last"]) == (0.7, 1, 0.6)
    assert (accuracy["last_clients"], accuracy["last_std"]) == (5, 0.125)
    assert accuracy["mean_of_last_ten"] == pytest.approx(0.65)
    assert own["loss"]["best"] == pytest.approx(0.3)
    assert own["f1"] == {"last": None}
