"""A metrics logger of your own: a CSV file with a line for each evaluation.

    fedapm train examples/sensors.yaml \
        'loggers=[jsonl, progress, {name: "./examples/my_logger.py:CsvLogger"}]'

A logger lives on rank 0. It gets the record of every round: the keys and values of the
round's line in rounds.jsonl. Loggers change no result.
"""

from collections.abc import Mapping
from typing import Any

from fedapm_mpi.tracking.base import MetricsLogger, RunInfo


class CsvLogger(MetricsLogger):
    """Writes the mean of one metric, by round.

    Parameters
    ----------
    run
        The run: its directory, its configuration, the round that it starts from.
    metric
        Name of the metric.
    file
        Name of the file in the run directory.
    """

    def __init__(
        self, run: RunInfo, *, metric: str = "loss", file: str = "metric.csv"
    ) -> None:
        self._metric = metric
        # A resumed run logs rounds again; here the file then has only the new ones.
        self._file = (run.path / file).open("w", encoding="utf-8")
        self._file.write(f"round,{metric}\n")

    def log(self, record: Mapping[str, Any], step: int) -> None:
        """Write a line, if the round was evaluated."""
        if self._metric in record:
            self._file.write(f"{step},{record[self._metric]}\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
