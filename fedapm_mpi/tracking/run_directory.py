"""The files of a run, in plain formats; rank 0 alone calls these functions.

::

    config.yaml      the resolved configuration, enough to run again
    provenance.json  versions, MPI library, hosts, placement, manifest hash, command
    built_model.json hashes of the model as it was built, for a resumed run to compare
    split_choice.json
                     of a split that was chosen: the candidates and their tests
    split.csv        every parameter: its shape, size, whether it is shared, and how
                     many clients' models have it
    rounds.jsonl     one object a round
    clients.csv      the last evaluation, client by client
    checkpoints/     the last few, see `checkpoint`
    fedapm.lock      during training: the process that trains, see `run_lock`
    final/           shared.safetensors, client states, digest.txt
    failure.json     the error that ended the run, if one did
    summary.json     best, last and mean of the last ten evaluations
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedapm_mpi.errors import ConfigError, WriteError
from fedapm_mpi.tracking import records, run_lock
from fedapm_mpi.tracking.records import Record as Record
from fedapm_mpi.tracking.records import Records
from fedapm_mpi.utils.atomic_io import (
    atomic_write,
    fsync_path,
    refuse_links,
    write_csv,
    write_error,
    write_text,
)

RUN_FILES = (
    "config.yaml",
    "provenance.json",
    "built_model.json",
    "split_choice.json",
    "split.csv",
    "rounds.jsonl",
    "clients.csv",
    "checkpoints",
    "final",
    "summary.json",
    "failure.json",
)
"""Names that a run writes into its directory, besides the lock."""

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def new_run_directory(parent: Path, stem: str) -> Path:
    """Make a directory with a name that no other run has, and return it.

    The name has the time and, under a scheduler, the job's number; if two runs
    start in the same second, `mkdir` decides which one gets the name.
    """
    job = os.environ.get("SLURM_JOB_ID") or os.environ.get("PBS_JOBID", "")
    name = "-".join(filter(None, [stem, time.strftime("%Y%m%d-%H%M%S"), job]))
    for attempt in range(1000):
        directory = parent / (f"{name}-{attempt}" if attempt else name)
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise write_error(directory, error) from error
        return directory
    msg = f"{parent} already holds a thousand runs called {name}"
    raise ConfigError(msg)


def _check_empty(directory: Path) -> None:
    """Refuse a directory for a new run that holds more than a lock."""
    try:
        names = {path.name for path in directory.iterdir()}
    except OSError as error:
        raise write_error(directory, error) from error
    if names - {run_lock.LOCK_FILE}:
        msg = (
            f"{directory} is not empty; continue the run in it by --resume, or name "
            "another --run-dir"
        )
        raise ConfigError(msg)


def make_directory(directory: Path) -> None:
    """Make a directory, unless it is there.

    Raises
    ------
    WriteError
        If that is not possible.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(directory, error) from error


def lock_run_directory(
    directory: Path,
    *,
    resume: bool,
    break_lock: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> run_lock.RunLock:
    """Lock the run directory that the user named, and return the lock.

    Parameters
    ----------
    directory
        Made if it is not there; it must be empty unless `resume`.
    resume
        Whether there may be a run in it.
    break_lock
        Whether to take it from a holder that may live on another host.
    tell
        Called with a sentence if this waits for another job.

    Raises
    ------
    ConfigError
        If it is not empty, if another job owns it, or if a name in it that runs write
        is a symbolic link.
    WriteError
        If it cannot be made or locked.
    """
    make_directory(directory)
    if not resume and not (directory / run_lock.LOCK_FILE).exists():
        _check_empty(directory)  # another user's folder: nothing is written there
    lock = run_lock.acquire(directory, break_lock=break_lock, tell=tell)
    try:
        if not resume:  # another run may have ended meanwhile
            _check_empty(directory)
        refuse_links(directory, RUN_FILES)
    except BaseException:
        lock.release()
        raise
    return lock


class RunDirectory:
    """The open directory of a run: records are appended, other files written whole.

    Parameters
    ----------
    path
        The run directory.
    lock
        The lock on it, if any; checked whenever records are synced.
    """

    def __init__(self, path: Path, lock: run_lock.RunLock | None = None) -> None:
        self.path = path
        self.lock = lock
        self.last: Record = {}
        """The last record; the others are only in the file, so that memory is flat."""

    @property
    def _rounds(self) -> Path:
        return self.path / records.RECORDS_FILE

    @property
    def checkpoints(self) -> Path:
        """Directory of the run's checkpoints."""
        return self.path / "checkpoints"

    def truncate_after(self, round_index: int) -> list[str]:
        """Keep the records of an interrupted run up to a round, and drop the rest.

        Damaged lines, and a line that a crash cut off, are dropped as well.

        Returns
        -------
        list of str
            Sentences on what is damaged or missing up to that round.

        Raises
        ------
        WriteError
            If the records cannot be read or written.
        """
        self.last = {}
        try:
            found = Records(self.path)
        except OSError as error:
            msg = f"cannot read {self._rounds}: {error.strerror}; move it away"
            raise WriteError(msg) from error

        def write(part: Path) -> None:
            with part.open("w", encoding="utf-8") as file:
                for record in found:
                    if record["round"] <= round_index:
                        file.write(_line(record))
                        self.last = record

        atomic_write(self._rounds, write)
        return found.notes(round_index) if round_index >= 0 else []

    def records(self) -> Iterator[Record]:
        """Yield the sound records of all rounds so far, without their check values.

        Raises
        ------
        WriteError
            If they cannot be read.
        """
        try:
            yield from Records(self.path)
        except OSError as error:
            msg = f"cannot read {self._rounds}: {error.strerror}"
            raise WriteError(msg) from error

    def add(self, record: Record) -> None:
        """Append a round's record to ``rounds.jsonl``."""
        self.last = record
        try:
            with os.fdopen(os.open(self._rounds, _APPEND, 0o666), "ab") as file:
                file.write(_line(record).encode())
        except OSError as error:
            raise write_error(self._rounds, error) from error

    def sync(self) -> None:
        """Wait until all records are on disk, so that no checkpoint is newer than them.

        Raises
        ------
        WriteError
            If that fails.
        LockError
            If another job has taken the directory over.
        """
        if self.lock is not None:
            self.lock.check()
        try:
            fsync_path(self._rounds)
        except FileNotFoundError:  # it was deleted: the summary reports that
            return
        except OSError as error:
            raise write_error(self._rounds, error) from error

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a JSON file whole."""
        text = json.dumps(nonfinite_to_none(values), indent=1, allow_nan=False)
        write_text(self.path / name, text + "\n")

    def write_csv(
        self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        """Write a CSV file; see `utils.atomic_io.write_csv`."""
        write_csv(self.path / name, header, rows)


def nonfinite_to_none(values: Any) -> Any:
    """Return nested plain values with NaN and infinity as `None`, as JSON needs."""
    if isinstance(values, float):
        return values if math.isfinite(values) else None
    if isinstance(values, Mapping):
        return {key: nonfinite_to_none(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [nonfinite_to_none(value) for value in values]
    return values


def _line(record: Record) -> str:
    return records.encode_record(nonfinite_to_none(record))
