"""The summary of a run, from the records of its rounds."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedapm_mpi.tasks import LOSS, MetricSet
from fedapm_mpi.tracking.records import Record, gaps
from fedapm_mpi.tracking.variants import VARIANTS
from fedapm_mpi.utils.text import format_ids, format_ranges

CLIENT_COUNTS = ("clients", "num_clients")
"""What the summary takes from the last evaluation as it is, besides the statistics of
the task."""

PART_NAMES = {"test": "test", "val": "validation", "train": "training"}
"""What titles call the parts of a split."""

FINAL_MEAN_WINDOW = 10
"""Evaluations in the mean of the last ones."""


def summarize_run(
    records: Iterable[Record], metrics: MetricSet, last_round: int | None = None
) -> dict[str, Any]:
    """Return best, last and mean of the last ten evaluations of every metric.

    The evaluation before training (round 0) counts for none of them. Each value is a
    mean over clients; the last evaluation's spread over clients comes with it, and the
    number of clients with each. Records of before there were such numbers have none.
    Further variants of clients' models (`VARIANTS`) have the same under their names.
    Rounds whose records are lost are named, since their evaluations do not count.

    Parameters
    ----------
    records
        In the order of their rounds.
    metrics
        The metrics of the run.
    last_round
        Rounds done; that of the last record unless given.
    """
    evaluated, known = [], array("q")
    taken: dict[str, Any] = {}
    for record in records:
        known.append(record["round"])
        if "num_participants" in record:
            empty = int(not record["num_participants"])
            taken["empty_rounds"] = taken.get("empty_rounds", 0) + empty
            taken["coverage"] = record.get("coverage")
        if record.get(LOSS) is not None and record["round"] > 0:
            evaluated.append(record)
    rounds = last_round if last_round is not None else known[-1] if known else 0
    missing = gaps(known, rounds) if known or last_round is not None else []
    result: dict[str, Any] = {
        "rounds": rounds,
        "evaluations": len(evaluated),
        "missing_rounds": format_ranges(missing),
        "num_missing_rounds": sum(len(one) for one in missing),
        **taken,
    }
    if not evaluated:
        return result
    last = evaluated[-1]
    result["last_evaluated_round"] = last["round"]
    taken_over = (*CLIENT_COUNTS, *metrics.statistics)
    result |= {key: last[key] for key in taken_over if key in last}
    result |= _all(evaluated, last, metrics)
    if "pooled" in last:
        result["pooled"] = last["pooled"]
    for name in VARIANTS:
        if last.get(name):
            own = [{**r, **r[name]} for r in evaluated if r.get(name)]
            result[name] = _all(own, own[-1], metrics)
    return result


def _all(
    evaluated: Sequence[Record], last: Record, metrics: MetricSet
) -> dict[str, Any]:
    return {
        metric: _one(evaluated, last, metric, higher)
        for metric, higher in metrics.higher_is_better.items()
    }


def _one(
    evaluated: Sequence[Record], last: Record, metric: str, higher: bool
) -> Mapping[str, Any]:
    known = [r for r in evaluated if r.get(metric) is not None]
    if not known:
        return {"last": None}
    best = (max if higher else min)(known, key=lambda r: r[metric])
    tail = known[-FINAL_MEAN_WINDOW:]
    counts = [n for r in tail if (n := clients_of(r, metric)) is not None]
    return {
        "last": last.get(metric),
        "last_clients": clients_of(last, metric),
        "last_std": last.get(f"{metric}_std"),
        "last_worst_decile": last.get(f"{metric}_worst_decile"),
        "last_worst_decile_clients": clients_of(last, metric, "worst_decile_clients"),
        "mean_of_last_ten": sum(r[metric] for r in tail) / len(tail),
        "last_ten_rounds": format_ids(r["round"] for r in tail),
        "mean_of_last_ten_evaluations": len(tail),
        "mean_of_last_ten_fewest_clients": min(counts, default=None),
        "mean_of_last_ten_most_clients": max(counts, default=None),
        "best": best[metric],
        "best_round": best["round"],
        "best_clients": clients_of(best, metric),
    }


def evaluated_parts(splits: Iterable[str]) -> str:
    """Return which parts of the clients' samples were evaluated, such as "test"."""
    return " or ".join(dict.fromkeys(PART_NAMES[split] for split in splits))


def clients_of(
    record: Mapping[str, Any], metric: str, what: str = "clients"
) -> int | None:
    """Return over how many clients a record has a metric; `None` in old records.

    `what` may be ``"worst_decile_clients"`` for the number in the worst decile.
    """
    found: int | None = record.get(f"{metric}_{what}", record.get(what))
    return found


def share_of_clients(clients: int | None, of: int | None) -> str:
    """Return "18 of 20", as far as the numbers are known; empty if none is."""
    if clients is None:
        return ""
    return f"{clients:,}" if of is None else f"{clients:,} of {of:,}"


def partial_counts(summary: Mapping[str, Any], metric: str) -> list[str]:
    """Return over how many clients a run has a metric, where that is not all."""
    found = []
    m, values = summary.get("num_clients"), summary.get(metric, {})
    last, best = values.get("last_clients"), values.get("best_clients")
    fewest = values.get("mean_of_last_ten_fewest_clients")
    most = values.get("mean_of_last_ten_most_clients")
    if m is not None and last is not None and last < m:
        found.append(
            f"the last evaluation is over {share_of_clients(last, m)} clients; the "
            "others have no sample of the evaluated part or were not chosen for it"
        )
    if fewest is not None and not fewest == most == last:
        found.append(
            f"the mean of the last {values['mean_of_last_ten_evaluations']} "
            f"evaluations is over {fewest:,} to {most:,} clients"
        )
    if best is not None and best != last:
        found.append(f"the best {metric} is over {share_of_clients(best, m)} clients")
    return found


def remarks(summary: Mapping[str, Any], metric: str, clients: int) -> list[str]:
    """Return sentences that qualify the metrics of a finished run.

    Parameters
    ----------
    summary
        Of the run, from `summarize_run`.
    metric
        The task's headline metric.
    clients
        How many clients there are.
    """
    found = partial_counts(summary, metric)
    if empty := summary.get("empty_rounds"):
        found.append(
            f"no client took part in {empty:,} of {summary['rounds']:,} rounds"
        )
    coverage = summary.get("coverage")
    if coverage is not None and coverage < clients:
        never = clients - coverage
        found.append(f"{never:,} of {clients:,} clients never took part")
    return found
