"""The figures of a whole run, from the records of its rounds."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .recorder import ranges
from .records import Record, gaps, spans

HIGHER_IS_BETTER = {
    "loss": False,
    "accuracy": True,
    "f1": True,
    "auroc": True,
    "auroc_absent_zero": True,
}
LAST = 10
"""Evaluations in the mean of the last ones."""


def summarise_run(
    records: Iterable[Record], last_round: int | None = None
) -> dict[str, Any]:
    """Return best, last and mean of the last ten evaluations of every metric.

    The evaluation before training (round 0) counts for none of them. Each value is a
    mean over clients; the last evaluation's spread over clients comes with it. Rounds
    whose records are lost are named, since their evaluations do not count either.

    Parameters
    ----------
    records
        In the order of their rounds.
    last_round
        Rounds done; that of the last record unless given.
    """
    evaluated, known = [], array("q")
    for record in records:
        known.append(record["round"])
        if record.get("loss") is not None and record["round"] > 0:
            evaluated.append(record)
    rounds = last_round if last_round is not None else known[-1] if known else 0
    missing = gaps(known, rounds) if known or last_round is not None else []
    result: dict[str, Any] = {
        "rounds": rounds,
        "evaluations": len(evaluated),
        "missing_rounds": spans(missing),
        "num_missing_rounds": sum(len(one) for one in missing),
    }
    if not evaluated:
        return result
    last = evaluated[-1]
    result["first_evaluated_round"] = evaluated[0]["round"]
    result["last_evaluated_round"] = last["round"]
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
        "last_ten_rounds": ranges(r["round"] for r in known[-LAST:]),
        "best": best[metric],
        "best_round": best["round"],
    }
