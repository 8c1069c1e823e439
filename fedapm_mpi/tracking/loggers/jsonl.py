"""The logger ``jsonl``: one line a round in ``rounds.jsonl``."""

from fedapm_mpi.tracking.base import MetricsLogger, RunInfo, loggers
from fedapm_mpi.tracking.records import Record
from fedapm_mpi.tracking.run_directory import RunDirectory


@loggers.register("jsonl")
def jsonl(run: RunInfo) -> "JsonlLogger":
    """Return the logger that appends to a run's ``rounds.jsonl``."""
    return JsonlLogger(run.directory)


class JsonlLogger(MetricsLogger):
    """Appends records to the file that resumed runs, summaries and reports read.

    The run directory decides what is durable: it truncates the file before a resumed
    run continues, and syncs it before a checkpoint counts.

    Parameters
    ----------
    directory
        The run directory.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory

    def log(self, record: Record, step: int) -> None:
        """Append a record.

        Raises
        ------
        WriteError
            If the file cannot be written.
        """
        self._directory.add(record)
