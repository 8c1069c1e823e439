"""Read a run directory: configuration, records, last evaluation, summary."""

import csv
import errno
import io
import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from fedapm_mpi.config.former_defaults import with_former_defaults
from fedapm_mpi.config.renamed_keys import with_new_names
from fedapm_mpi.config.schema import Config
from fedapm_mpi.config.yaml_io import parse
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.storage.final_state import read_digest
from fedapm_mpi.tasks import LOSS, MetricSet
from fedapm_mpi.tracking.metric_set import read_metric_set
from fedapm_mpi.tracking.records import MAX_ROUND, RECORDS_FILE, Record, Records
from fedapm_mpi.tracking.summary import (
    PART_NAMES,
    clients_of,
    share_of_clients,
    summarize_run,
)
from fedapm_mpi.tracking.variants import VARIANTS
from fedapm_mpi.utils.atomic_io import open_regular
from fedapm_mpi.utils.text import one_line

if TYPE_CHECKING:
    from torch import nn


class Run:
    """A run directory, read as far as it is asked for.

    A run may still be training, or have been killed: a line of its records that is
    damaged, cut off or being written is left out.

    Parameters
    ----------
    path
        The run directory.
    label
        What tables and figures call the run; the directory's name unless given.
    """

    def __init__(self, path: Path | str, label: str = "") -> None:
        self.path = Path(path)
        self.label = label or self.path.resolve().name

    @classmethod
    def load(cls, path: Path | str) -> "Run":
        """Return a run whose records can be read.

        A run whose file of records was deleted has none.

        Raises
        ------
        DataError
            If it is not a run directory, or its records cannot be read.
        """
        run = cls(path)
        is_run = (run.path / "config.yaml").is_file()
        if not (is_run or os.path.lexists(run.path / RECORDS_FILE)):
            raise run._unreadable(OSError(errno.ENOENT, os.strerror(errno.ENOENT)))
        run.records  # noqa: B018  # read now, so that an error is raised here
        return run

    @cached_property
    def config(self) -> Config:
        """The resolved configuration.

        Raises
        ------
        DataError
            If it cannot be read.
        """
        return read_config(self.path)

    @cached_property
    def records(self) -> list[Record]:
        """The sound records of the run's rounds, in their order.

        Raises
        ------
        DataError
            If they cannot be read.
        """
        try:
            return list(self._reader)
        except OSError as error:
            raise self._unreadable(error) from error

    @cached_property
    def last_round(self) -> int:
        """The last round that the records or ``summary.json`` have, else -1."""
        try:
            with open_regular(self.path / "summary.json") as file:
                done = json.loads(file.read().decode("utf-8"))["rounds"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            done = -1
        known = type(done) is int and 0 <= done < MAX_ROUND
        return max([*self._reader.rounds[-1:], done if known else -1])

    @property
    def notes(self) -> list[str]:
        """What is damaged or missing in the records, a sentence each."""
        return self._reader.notes(self.last_round)

    @cached_property
    def metrics(self) -> MetricSet:
        """The metrics of the run's task."""
        return read_metric_set(self.path)

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """Last, best and mean values of every metric; see `summarize_run`.

        It is computed from the records, so that an unfinished run has one as well.
        """
        last = self.last_round
        return summarize_run(self.records, self.metrics, last if last >= 0 else None)

    @cached_property
    def clients(self) -> list[dict[str, Any]]:
        """The last evaluation, in client order; an undefined metric is NaN.

        Metrics of further variants have names such as ``client_copy_accuracy``.

        Raises
        ------
        DataError
            If ``clients.csv`` cannot be read.
        """
        path = self.path / "clients.csv"
        if not os.path.lexists(path):  # not evaluated yet
            return []
        try:
            with open_regular(path) as raw:
                file = io.TextIOWrapper(raw, encoding="utf-8", newline="")
                return [_client(row, self.metrics) for row in csv.DictReader(file)]
        except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
            msg = f"cannot read {path} ({error}); was it edited?"
            raise DataError(msg) from error

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        """What ``provenance.json`` states: versions, hosts, data.

        Raises
        ------
        DataError
            If it cannot be read.
        """
        path = self.path / "provenance.json"
        try:
            with open_regular(path) as file:
                values: dict[str, Any] = dict(json.loads(file.read().decode("utf-8")))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            msg = f"cannot read {path} ({error}): {self.path} is not a run directory"
            raise DataError(msg) from error
        return values

    @property
    def algorithm(self) -> str:
        """Name of the algorithm, for a user's own without its module."""
        name: str = self.config.algorithm["name"]
        return name.rpartition(":")[2]

    @property
    def digest(self) -> str:
        """The digest of the final state, as ``final/digest.txt`` has it.

        Raises
        ------
        DataError
            If the run is not finished, or the file is damaged.
        """
        return read_digest(self.path)

    def client_model(self, client: int | str, *, trust: bool = False) -> "nn.Module":
        """Return a client's personal model; see `load_client_model`."""
        # Only here: records and summaries can be read without torch.
        from fedapm_mpi.analysis.client_model import load_client_model

        return load_client_model(self.path, client, trust=trust)

    def curve(self, key: str) -> tuple[list[int], list[float]]:
        """Return the rounds whose record has a number, and the numbers."""
        known = [(r["round"], r[key]) for r in self.records if r.get(key) is not None]
        return [t for t, _ in known], [value for _, value in known]

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

    @cached_property
    def _reader(self) -> Records:
        try:
            return Records(self.path)
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> DataError:
        """Return the error to raise where the records cannot be read."""
        msg = f"cannot read {self.path / RECORDS_FILE} ({error.strerror})"
        if not (self.path / "config.yaml").is_file():
            msg += f": {self.path} is not a run directory"
        return DataError(msg)


def _client(row: Mapping[str, str], metrics: MetricSet) -> dict[str, Any]:
    own = [f"{variant}_{key}" for variant in VARIANTS for key in metrics.names]
    keys = [*metrics.names, *(key for key in own if key in row)]
    values = {key: float(row[key] or "nan") for key in keys}
    return {"client": int(row["client"]), "name": row["name"], **values}


def read_config(run: Path) -> Config:
    """Return the resolved configuration of a run."""
    path = run / "config.yaml"
    try:
        with open_regular(path) as file:
            values, _ = with_new_names(parse(file.read().decode("utf-8")))
            config = Config.from_plain(with_former_defaults(values))
        _check_config(config)
    except (
        OSError, ValueError, LookupError, TypeError, AttributeError, ConfigError,
    ) as error:  # fmt: skip
        why = one_line(str(error))
        msg = f"cannot read {path} ({why}): {run} is not a run directory"
        raise DataError(msg) from error
    return config


def _check_config(config: Config) -> None:
    """Raise an error where a value that is used here is not what a run writes."""
    for key in ("model", "algorithm"):
        part = getattr(config, key)
        if not isinstance(part, dict) or not isinstance(part["name"], str):
            msg = f"{key} has no name"
            raise TypeError(msg)
    kinds: dict[str, tuple[type, ...]] = {
        "data": (str,), "rounds": (int,), "seed": (int,), "clients": (int, NoneType),
        "buffers": (str,), "precision": (str,),
    }  # fmt: skip
    for key, known in kinds.items():
        if not isinstance(getattr(config, key), known):
            msg = f"{key} is of another type"
            raise TypeError(msg)
    if config.evaluation.split not in PART_NAMES:
        msg = "evaluation.split is none of the parts"
        raise ValueError(msg)
