"""Runs as a report sees them: a label, the records of rounds, the last evaluation."""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedapm_mpi.analysis.run import last_round, open_records, read_config
from fedapm_mpi.errors import DataError
from fedapm_mpi.tasks import LOSS, MetricSet
from fedapm_mpi.tracking.metric_set import read_metric_set
from fedapm_mpi.tracking.records import Record
from fedapm_mpi.tracking.summary import (
    clients_of,
    share_of_clients,
    summarize_run,
)
from fedapm_mpi.utils.atomic_io import open_regular


@dataclass(frozen=True)
class Run:
    """One run, read whole."""

    label: str
    """What tells it from the others: its algorithm, or else its directory's name."""

    directory: Path
    algorithm: str
    rounds: int
    """Rounds that its configuration asks for."""

    records: Sequence[Record]
    summary: Mapping[str, Any]
    clients: Sequence[Mapping[str, Any]]
    """The last evaluation, in client order; numbers as float, those that are not
    defined as NaN."""

    metrics: MetricSet
    """The metrics of its task."""

    notes: Sequence[str] = ()
    """What is damaged or missing, a sentence each."""

    split: str = "test"
    """The part of the clients' samples that was evaluated."""

    def evaluated(self) -> str:
        """Return how many clients' evaluations curves are over, such as "18 of 20"."""
        tested = [r for r in self.records if r.get(LOSS) is not None]
        counts = [clients_of(r, self.metrics.headline) for r in tested]
        known = [n for n in counts if n is not None]
        if not known:
            return ""
        fewest, most = min(known), max(known)
        of = share_of_clients(most, self.summary.get("num_clients"))
        return of if fewest == most else f"{fewest:,} to {of}"

    def curve(self, key: str) -> tuple[list[int], list[float]]:
        """Return the rounds that recorded a figure, and the figure."""
        known = [(r["round"], r[key]) for r in self.records if r.get(key) is not None]
        return [t for t, _ in known], [value for _, value in known]


def side_by_side(runs: Sequence[Run]) -> list[Run]:
    """Return the runs with those clients only that all of them evaluated."""
    evaluated = [{row["client"] for row in run.clients} for run in runs]
    common = set.intersection(*evaluated)
    return [
        replace(run, clients=[row for row in run.clients if row["client"] in common])
        for run in runs
    ]


def common_headline(runs: Sequence[Run]) -> str:
    """Return the first run's most important metric that all runs have."""
    first = runs[0].metrics
    wanted = (first.headline, *first.displayed)
    return next(
        (m for m in wanted if all(m in run.metrics.names for run in runs)), LOSS
    )


def read_runs(directories: Sequence[Path]) -> list[Run]:
    """Read runs that are to be compared.

    Raises
    ------
    DataError
        If one is not a run directory, or not all were trained on the same data.
    """
    trained_on = [_data(directory) for directory in directories]
    for directory, (dataset, sha256) in zip(directories, trained_on, strict=True):
        first, first_sha256 = trained_on[0]
        if sha256 != first_sha256:
            msg = (
                f"{directories[0]} and {directory} were trained on different data "
                f"({first} {first_sha256[:12]}, {dataset} {sha256[:12]}), so their "
                "figures cannot be compared; report on them apart"
            )
            raise DataError(msg)
    configs = [read_config(directory) for directory in directories]
    names = [config.algorithm["name"].rpartition(":")[2] for config in configs]
    labels = _labels(directories, names)
    runs = []
    for k, directory in enumerate(directories):
        reader = open_records(directory)
        records, last = list(reader), last_round(directory, reader)
        metrics = read_metric_set(directory)
        run = Run(
            label=labels[k],
            directory=directory,
            algorithm=names[k],
            rounds=configs[k].rounds,
            records=records,
            summary=summarize_run(records, metrics, last if last >= 0 else None),
            clients=_clients(directory, metrics),
            metrics=metrics,
            notes=reader.notes(last),
            split=configs[k].evaluation.split,
        )
        runs.append(run)
    return runs


def _labels(directories: Sequence[Path], algorithms: Sequence[str]) -> list[str]:
    """Return the shortest kind of label under which all runs differ."""
    names = [directory.resolve().name for directory in directories]
    for labels in (list(algorithms), names):
        if len(set(labels)) == len(labels):
            return labels
    return [str(directory) for directory in directories]


def _data(run: Path) -> tuple[str, str]:
    """Return the name of the data set that a run used, and its manifest's SHA-256."""
    path = run / "provenance.json"
    try:
        with open_regular(path) as file:
            manifest = json.loads(file.read().decode("utf-8"))["manifest"]
        return str(manifest["dataset"]), str(manifest["sha256"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        msg = f"cannot read {path} ({error}): {run} is not a run directory"
        raise DataError(msg) from error


def _clients(run: Path, metrics: MetricSet) -> list[dict[str, Any]]:
    path = run / "clients.csv"
    if not os.path.lexists(path):  # not evaluated yet
        return []
    try:
        with open_regular(path) as raw:
            file = io.TextIOWrapper(raw, encoding="utf-8", newline="")
            return [_client(row, metrics) for row in csv.DictReader(file)]
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        msg = f"cannot read {path} ({error}); was it edited?"
        raise DataError(msg) from error


def _client(row: Mapping[str, str], metrics: MetricSet) -> dict[str, Any]:
    figures = {key: float(row[key] or "nan") for key in metrics.names}
    return {"client": int(row["client"]), "name": row["name"], **figures}
