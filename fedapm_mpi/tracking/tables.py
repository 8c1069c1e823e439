"""The tables of a run: its model's parameters, and how it ended."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedapm_mpi.tracking.summary import (
    FINAL_MEAN_WINDOW,
    PART_NAMES,
    share_of_clients,
)
from fedapm_mpi.tracking.variants import VARIANTS
from fedapm_mpi.utils.terminal import echo, print_table

if TYPE_CHECKING:  # tables need no torch
    from fedapm_mpi.engine.partitioned_model import ParameterInfo


def print_parameter_table(rows: Sequence["ParameterInfo"], longest: int = 40) -> None:
    """Print every parameter with its block, and the size of each block."""
    total = sum(row.size for row in rows if row.block in ("shared", "personal"))
    counts = {
        block: sum(row.size for row in rows if row.block == block)
        for block in ("shared", "personal", "frozen", "buffer", "counter")
    }
    shown: list[Sequence[object]] = [
        (row.name, "×".join(map(str, row.shape)) or "1", row.size, row.block)
        for row in rows[:longest]
    ]
    if len(rows) > longest:
        shown.append((f"… {len(rows) - longest} more", "", "", ""))
    print_table("Model", ("tensor", "shape", "size", "block"), shown)
    for block in ("shared", "personal"):
        echo(f"{block}: {counts[block]:,} of {total:,} ({counts[block] / total:.1%})")


def print_summary(
    summary: Mapping[str, Any], split: str, metrics: Sequence[str]
) -> None:
    """Print the summary of a run's evaluations.

    Parameters
    ----------
    summary
        From `summarize_run`, of a run with an evaluation.
    split
        The part of the clients' samples that was evaluated.
    metrics
        Names of the metrics, a row each; a table for each variant of clients' models.
    """
    evaluations = min(FINAL_MEAN_WINDOW, summary["evaluations"])
    title = (
        f"Clients' own {PART_NAMES[split]} parts after round "
        f"{summary['last_evaluated_round']}"
    )
    header = (
        "metric",
        "clients",
        "mean",
        "std",
        "worst decile",
        "clients in it",
        f"mean of last {evaluations}",
        "best",
        "round",
    )
    m = summary.get("num_clients")
    print_table(title, header, [_row(one, summary[one], m) for one in metrics])
    for name, words in VARIANTS.items():
        if own := summary.get(name):
            rows = [_row(one, own[one], m) for one in metrics]
            print_table(f"{title}: {words}", header, rows)


def _row(metric: str, values: Mapping[str, Any], m: int | None) -> tuple[Any, ...]:
    known = values.get("last_clients")
    keys = (
        "last",
        "last_std",
        "last_worst_decile",
        "last_worst_decile_clients",
        "mean_of_last_ten",
        "best",
        "best_round",
    )
    return (
        metric,
        share_of_clients(known, m) or None,
        *(values.get(key) for key in keys),
    )
