"""Runs on the same data, compared: rows for the terminal and for a CSV file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedapm_mpi.analysis.run import Run
from fedapm_mpi.errors import DataError
from fedapm_mpi.tasks import LOSS
from fedapm_mpi.tracking.summary import (
    partial_counts,
    share_of_clients,
)
from fedapm_mpi.tracking.variants import VARIANTS
from fedapm_mpi.utils.atomic_io import write_csv

COLUMNS = {
    "mean": "last",
    "clients": "last_clients",
    "worst_decile": "last_worst_decile",
    "worst_decile_clients": "last_worst_decile_clients",
    "std": "last_std",
    "mean_of_last_10": "mean_of_last_ten",
    "best": "best",
    "best_round": "best_round",
}
"""Columns of a comparison, and what the summary of a run calls them."""

OPTIONAL_COLUMNS = {
    "mean_of_last_10_evaluations": "mean_of_last_ten_evaluations",
    "mean_of_last_10_fewest_clients": "mean_of_last_ten_fewest_clients",
    "mean_of_last_10_most_clients": "mean_of_last_ten_most_clients",
    "best_clients": "best_clients",
}
"""Columns of CSV files only."""


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Return runs that are to be compared, each with a label of its own.

    Raises
    ------
    DataError
        If one is not a run directory, or not all were trained on the same data.
    """
    runs = [Run.load(path) for path in paths]
    first, *_ = trained_on = [_data_set(run) for run in runs]
    for path, other in zip(paths, trained_on, strict=True):
        if other[1] != first[1]:
            msg = (
                f"{paths[0]} and {path} were trained on different data ({first[0]} "
                f"{first[1][:12]}, {other[0]} {other[1][:12]}), so their metrics "
                "cannot be compared; report on them separately"
            )
            raise DataError(msg)
    labels = _labels(paths, [run.algorithm for run in runs])
    for run, label in zip(runs, labels, strict=True):
        run.label = label
    return runs


def side_by_side(runs: Sequence[Run]) -> list[list[Mapping[str, Any]]]:
    """Return the rows of each run's last evaluation, of clients that all evaluated."""
    evaluated = [{row["client"] for row in run.clients} for run in runs]
    common = set.intersection(*evaluated)
    return [[row for row in run.clients if row["client"] in common] for run in runs]


def common_headline(runs: Sequence[Run]) -> str:
    """Return the first run's most important metric that all runs have."""
    first = runs[0].metrics
    wanted = (first.headline, *first.displayed)
    return next(
        (m for m in wanted if all(m in run.metrics.names for run in runs)), LOSS
    )


def summary_metrics(
    run: Run, metric: str, columns: Mapping[str, str] = COLUMNS, variant: str = ""
) -> list[Any]:
    """Return a run's row of one metric, `None` where it has none.

    `variant` is one of `VARIANTS`, or empty.
    """
    summary = run.summary[variant] if variant else run.summary
    values = summary.get(metric, {})
    return [values.get(key) for key in columns.values()]


def table_rows(runs: Sequence[Run]) -> list[list[Any]]:
    """Return the rows of the table, the runs of each metric next to each other."""
    place = list(COLUMNS).index("clients")
    rows = []
    shown = (metric for run in runs for metric in run.metrics.displayed)
    for metric in dict.fromkeys(shown):
        for k, run in enumerate(runs):
            cells = summary_metrics(run, metric)
            share = share_of_clients(cells[place], run.summary.get("num_clients"))
            cells[place] = share or None
            rows.append([metric if k == 0 else "", run.label, *cells])
    return rows


def notes(runs: Sequence[Run]) -> list[str]:
    """Return notes on the table: what is unfinished or lost, and gains by client."""
    lines = []
    for run in runs:
        done = run.summary["rounds"]
        converged = any(record.get("converged") for record in run.records[-1:])
        if done < run.config.rounds and not converged:
            lines.append(
                f"{run.label}: round {done} of {run.config.rounds}, not finished; "
                f"continue by: fedapm train --resume {run.path}"
            )
        if not run.summary["evaluations"]:
            lines.append(f"{run.label}: not evaluated yet")
        lines += [
            f"{run.label}: {text}"
            for text in partial_counts(run.summary, run.metrics.headline)
        ]
        lines += [f"note: {note}" for note in run.notes]
    lines += _differing(runs)
    first = runs[0]
    for other in runs[1:]:
        metric = common_headline([first, other])
        sign = 1 if first.metrics.higher_is_better[metric] else -1
        ours, theirs = side_by_side([first, other])
        pairs = zip(ours, theirs, strict=True)
        gains = [sign * (a[metric] - b[metric]) for a, b in pairs]
        better, worse = sum(g > 0 for g in gains), sum(g < 0 for g in gains)
        if gains:
            undefined = sum(g != g for g in gains)
            without = f", not known for {undefined}" if undefined else ""
            lines.append(
                f"{metric}, client by client: {first.label} is better than "
                f"{other.label} for {better} of {len(gains)}, worse for {worse}"
                f"{without}"
            )
    return lines


def _differing(runs: Sequence[Run]) -> list[str]:
    """Return a sentence if the runs' means are not over equally many clients."""
    known = {run.label: run.summary.get("clients") for run in runs}
    if len({n for n in known.values() if n is not None}) < 2:
        return []
    shares = {
        run.label: share_of_clients(known[run.label], run.summary.get("num_clients"))
        for run in runs
    }
    counts = ", ".join(f"{label} {share}" for label, share in shares.items() if share)
    return [
        f"means are over different numbers of clients ({counts}): compare client by "
        "client"
    ]


def write_comparison(path: Path, runs: Sequence[Run]) -> None:
    """Write every metric of every run as CSV; an empty cell is undefined."""
    header = ("run", "directory", "algorithm", "rounds", "num_clients", "metric")
    rows: list[list[object]] = []
    for run in runs:
        start = [run.label, run.path, run.algorithm, run.summary["rounds"]]
        start.append(run.summary.get("num_clients"))
        columns = COLUMNS | OPTIONAL_COLUMNS
        for variant in ("", *(name for name in VARIANTS if name in run.summary)):
            for metric in run.metrics.names:
                values = summary_metrics(run, metric, columns, variant)
                name = f"{variant}_{metric}" if variant else metric
                rows.append([*start, name, *values])
    write_csv(path, (*header, *COLUMNS, *OPTIONAL_COLUMNS), rows)


def _labels(paths: Sequence[Path], algorithms: Sequence[str]) -> list[str]:
    """Return the shortest kind of label under which all runs differ."""
    names = [path.resolve().name for path in paths]
    for labels in (list(algorithms), names):
        if len(set(labels)) == len(labels):
            return labels
    return [str(path) for path in paths]


def _data_set(run: Run) -> tuple[str, str]:
    """Return the name of the data set that a run used, and its manifest's SHA-256."""
    try:
        manifest = run.provenance["manifest"]
        return str(manifest["dataset"]), str(manifest["sha256"])
    except (LookupError, TypeError) as error:
        path = run.path / "provenance.json"
        msg = f"cannot read {path} ({error!r}): {run.path} is not a run directory"
        raise DataError(msg) from error
