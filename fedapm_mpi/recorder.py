"""What a run writes, in plain formats; only rank 0 calls any of this.

::

    config.yaml      the resolved configuration, enough to run again
    provenance.json  versions, MPI library, hosts, placement, manifest hash, command
    built_model.json hashes of the model as it was built, for a resumed run to compare
    split.csv        every parameter: its shape, size, whether it is shared, and how
                     many clients' models have it
    rounds.jsonl     one object a round
    clients.csv      the last evaluation, client by client
    checkpoints/     the last few, see `checkpoint`
    final/           shared.safetensors, client states, digest.txt
    summary.json     best, last and mean of the last ten evaluations
"""

import csv
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .files import cannot_write, write_text, write_whole

Record = dict[str, Any]


def new_run_directory(parent: Path, stem: str) -> Path:
    """Make a directory with a name that no other run has, and return it.

    The name has the time and, under a scheduler, the job's number; `mkdir` settles who
    gets it where two runs start in the same second.
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
            raise cannot_write(directory, error) from error
        return directory
    msg = f"{parent} already holds a thousand runs called {name}"
    raise ConfigError(msg)


def claim_directory(directory: Path) -> Path:
    """Make the run directory that the user named; it must be new or empty."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            msg = (
                f"{directory} is not empty; go on with the run in it by --resume, or "
                "name another --run-dir"
            )
            raise ConfigError(msg)
    except OSError as error:
        raise cannot_write(directory, error) from error
    return directory


class Recorder:
    """Writes a run's records as they come.

    Parameters
    ----------
    directory
        The run directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.last: Record = {}
        """The last record; all others are in the file alone, so that memory is flat."""

    @property
    def _rounds(self) -> Path:
        return self.directory / "rounds.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Directory of the run's checkpoints."""
        return self.directory / "checkpoints"

    def keep_until(self, round_index: int) -> None:
        """Take up the records of an interrupted run, up to a round, and drop the rest.

        A line that was cut off by a crash is dropped with them.
        """
        kept = [r for r in self.records() if r["round"] <= round_index]
        self.last = kept[-1] if kept else {}
        write_text(self._rounds, "".join(_line(record) for record in kept))

    def records(self) -> Iterator[Record]:
        """Yield the records of all rounds so far, up to a line that was cut off."""
        if not self._rounds.exists():
            return
        with self._rounds.open(encoding="utf-8") as file:
            for line in file:
                try:
                    yield json.loads(line)
                except ValueError:
                    return

    def add(self, record: Record) -> None:
        """Append a round's record to ``rounds.jsonl``."""
        self.last = record
        try:
            with self._rounds.open("a", encoding="utf-8") as file:
                file.write(_line(record))
        except OSError as error:
            raise cannot_write(self._rounds, error) from error

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a JSON file whole."""
        text = json.dumps(finite(values), indent=1, allow_nan=False)
        write_text(self.directory / name, text + "\n")

    def write_csv(
        self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        """Write a CSV file whole; a NaN becomes an empty cell."""

        def write(path: Path) -> None:
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(header)
                writer.writerows([_cell(value) for value in row] for row in rows)

        write_whole(self.directory / name, write)


def finite(values: Any) -> Any:
    """Return nested plain values with NaN and infinity as `None`, as JSON needs."""
    if isinstance(values, float):
        return values if math.isfinite(values) else None
    if isinstance(values, Mapping):
        return {key: finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [finite(value) for value in values]
    return values


def ranges(ids: Iterable[int]) -> str:
    """Return ascending ids as text, such as ``"0-3,7,9-10"``."""
    spans: list[list[int]] = []
    for number in ids:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(f"{a}-{b}" if b > a else f"{a}" for a, b in spans)


def _line(record: Record) -> str:
    return json.dumps(finite(record), allow_nan=False) + "\n"


def _cell(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else value
