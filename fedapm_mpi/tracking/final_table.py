"""The table with which a run ends."""

from collections.abc import Mapping
from typing import Any

from fedapm_mpi.tracking.progress import print_table
from fedapm_mpi.tracking.summary import (
    FINAL_MEAN_WINDOW,
    HIGHER_IS_BETTER,
    PART_NAMES,
    share_of_clients,
)


def print_summary(summary: Mapping[str, Any], split: str) -> None:
    """Print what `summarise_run` made of a run's evaluations.

    Parameters
    ----------
    summary
        Of a run with an evaluation.
    split
        The part of the clients' samples that was evaluated.
    """
    m = summary.get("num_clients")
    evaluations = min(FINAL_MEAN_WINDOW, summary["evaluations"])
    print_table(
        f"Clients' own {PART_NAMES[split]} parts after round "
        f"{summary['last_evaluated_round']}",
        (
            "metric",
            "clients",
            "mean",
            "std",
            "worst decile",
            "its clients",
            f"mean of last {evaluations}",
            "best",
            "round",
        ),
        [_row(metric, summary[metric], m) for metric in HIGHER_IS_BETTER],
    )


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
