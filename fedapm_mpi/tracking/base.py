"""What a metrics logger is: it gets the record of every round, on rank 0."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fedapm_mpi.plugins.errors import blame
from fedapm_mpi.registry import Registry
from fedapm_mpi.tasks import MetricSet
from fedapm_mpi.tracking.records import Record
from fedapm_mpi.tracking.run_directory import RunDirectory

ProgressKind = Literal["auto", "live", "lines", "none"]
"""What ``--progress`` takes."""


@dataclass(frozen=True)
class RunInfo:
    """The run that a logger is opened for."""

    directory: RunDirectory
    """The run directory; rank 0 alone writes to it."""

    config: Mapping[str, Any]
    """The resolved configuration, as plain values."""

    metrics: MetricSet
    """Names and directions of the metrics of an evaluation."""

    first_round: int = 0
    """Rounds that were done when the run was resumed; 0 for a new run. Records of
    later rounds, which the interrupted run may have logged already, come again."""

    progress: ProgressKind = "auto"
    """What the command line asks for by ``--progress``."""

    @property
    def path(self) -> Path:
        """Path of the run directory."""
        return self.directory.path

    @property
    def rounds(self) -> int:
        """Communication rounds that the configuration asks for."""
        rounds: int = self.config["rounds"]
        return rounds


class MetricsLogger(ABC):
    """Receives a run's metrics, such as a display, a file or an experiment tracker.

    It lives on rank 0. Its class, or a function that returns one, is a plug-in: it is
    called with a `RunInfo` and the options from the configuration.
    """

    @abstractmethod
    def log(self, record: Record, step: int) -> None:
        """Log the record of a round.

        Parameters
        ----------
        record
            The keys and values of the round's line in ``rounds.jsonl``: numbers, or
            dictionaries of numbers, with `None` or NaN for what is not defined.
        step
            The round: 0 is the state before training.
        """

    def close(self) -> None:
        """Release what the logger holds; called once, also after a failure."""
        return


class LoggerList(MetricsLogger):
    """Several loggers as one.

    Parameters
    ----------
    loggers
        Loggers in the order in which they get a record, each with what messages call
        it: `None` for one that comes with the package.
    """

    def __init__(self, loggers: Sequence[tuple[str | None, MetricsLogger]]) -> None:
        self._loggers = tuple(loggers)

    def log(self, record: Record, step: int) -> None:
        """Log a record with each of them.

        Raises
        ------
        PluginError
            If a user's own logger fails.
        """
        for label, logger in self._loggers:
            with blame(label):
                logger.log(dict(record), step)

    def close(self) -> None:
        """Close all of them, the last one first, even if one fails."""
        with ExitStack() as stack:
            for label, logger in self._loggers:
                stack.enter_context(blame(label))
                stack.callback(logger.close)


loggers: Registry[Callable[..., MetricsLogger]] = Registry(
    "logger", "fedapm_mpi.tracking.loggers"
)
