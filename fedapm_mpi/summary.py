"""The figures of a whole run, from the records of its rounds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .recorder import Record

HIGHER_IS_BETTER = {
    "loss": False,
    "accuracy": True,
    "f1": True,
    "auroc": True,
    "auroc_absent_zero": True,
}
LAST = 10
"""Evaluations in the mean of the last ones."""


def summarise_run(records: Iterable[Record]) -> dict[str, Any]:
    """Return best, last and mean of the last ten evaluations of every metric.

    The evaluation before training (round 0) counts for none of them. Each value is a
    mean over clients; the last evaluation's spread over clients comes with it.
    """
    evaluated, rounds = [], 0
    for record in records:
        rounds = record["round"]
        if record.get("loss") is not None and rounds > 0:
            evaluated.append(record)
    if not evaluated:
        return {"rounds": rounds, "evaluations": 0}
    last = evaluated[-1]
    result: dict[str, Any] = {
        "rounds": rounds,
        "evaluations": len(evaluated),
        "last_evaluated_round": last["round"],
    }
    for metric, higher in HIGHER_IS_BETTER.items():
        result[metric] = _one(evaluated, last, metric, higher)
    if "pooled" in last:
        result["pooled"] = last["pooled"]
    return result


def _one(
    evaluated: Sequence[Record], last: Record, metric: str, higher: bool
) -> Mapping[str, Any]:
    known = [r for r in evaluated if r.get(metric) is not None]
    if not known:
        return {"last": None}
    best = (max if higher else min)(known, key=lambda r: r[metric])
    tail = [r[metric] for r in known[-LAST:]]
    return {
        "last": last.get(metric),
        "last_std": last.get(f"{metric}_std"),
        "last_worst_decile": last.get(f"{metric}_worst_decile"),
        "mean_of_last_ten": sum(tail) / len(tail),
        "best": best[metric],
        "best_round": best["round"],
    }
