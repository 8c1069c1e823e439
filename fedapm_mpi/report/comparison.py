"""What runs come to, side by side: rows for the terminal and for a CSV file."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import write_whole
from ..summary import HIGHER_IS_BETTER
from .read import Run, side_by_side

COLUMNS = {
    "mean": "last",
    "worst_decile": "last_worst_decile",
    "std": "last_std",
    "mean_of_last_10": "mean_of_last_ten",
    "best": "best",
    "best_round": "best_round",
}
"""Columns of a comparison, and what the summary of a run calls them."""

SHOWN = ("accuracy", "f1", "auroc", "loss")
"""Metrics of the table; the CSV file has all."""


def figures(run: Run, metric: str) -> list[Any]:
    """Return a run's row of one metric, `None` where it has none."""
    values = run.summary.get(metric, {})
    return [values.get(key) for key in COLUMNS.values()]


def table_rows(runs: Sequence[Run]) -> list[list[Any]]:
    """Return the rows of the table, the runs of each metric next to each other."""
    return [
        [metric if k == 0 else "", run.label, *figures(run, metric)]
        for metric in SHOWN
        for k, run in enumerate(runs)
    ]


def sentences(runs: Sequence[Run]) -> list[str]:
    """Return what the table does not say: what is unfinished or lost, and more."""
    lines = []
    for run in runs:
        done = run.summary["rounds"]
        if done < run.rounds:
            lines.append(
                f"{run.label}: round {done} of {run.rounds}, not finished; go on with: "
                f"fedapm train --resume {run.directory}"
            )
        if not run.summary["evaluations"]:
            lines.append(f"{run.label}: not evaluated yet")
        lines += [f"note: {note}" for note in run.notes]
    first = runs[0]
    for other in runs[1:]:
        ours, theirs = (run.clients for run in side_by_side([first, other]))
        pairs = zip(ours, theirs, strict=True)
        gains = [a["accuracy"] - b["accuracy"] for a, b in pairs]
        better, worse = sum(g > 0 for g in gains), sum(g < 0 for g in gains)
        if gains:
            lines.append(
                f"accuracy, client by client: {first.label} is better than "
                f"{other.label} for {better} of {len(gains)}, worse for {worse}"
            )
    return lines


def write_comparison(path: Path, runs: Sequence[Run]) -> None:
    """Write every run's figures of every metric as CSV; an empty cell is undefined."""

    def write(part: Path) -> None:
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(
                ["run", "directory", "algorithm", "rounds", "metric", *COLUMNS]
            )
            for run in runs:
                start = [run.label, run.directory, run.algorithm, run.summary["rounds"]]
                for metric in HIGHER_IS_BETTER:
                    writer.writerow([*start, metric, *figures(run, metric)])

    write_whole(path, write)
