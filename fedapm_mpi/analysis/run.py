"""Read a run directory: records, clients' models, digest."""

import csv
import errno
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, wraps
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from fedapm_mpi.algorithms import Algorithm, ClientState, adapt, algorithms
from fedapm_mpi.config.renamed_keys import with_new_names
from fedapm_mpi.config.schema import Config
from fedapm_mpi.config.yaml_io import parse
from fedapm_mpi.data.manifest import Manifest, read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.samples import Samples, to_samples
from fedapm_mpi.engine.tensor_files import READ_ERRORS, read_tensors
from fedapm_mpi.errors import ConfigError, DataError, FedAPMError
from fedapm_mpi.federation.builder import build_plugin
from fedapm_mpi.federation.client_groups import ClientGroup, ClientGroups, build_groups
from fedapm_mpi.federation.federation import client_weights
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.storage.digest import run_digest, state_digest
from fedapm_mpi.storage.final_state import AGAIN, check_sum, read_digest, tensor_files
from fedapm_mpi.tasks import LOSS, MetricSet
from fedapm_mpi.tracking.metric_set import read_metric_set
from fedapm_mpi.tracking.records import FILE, MAX_ROUND, Record, Records
from fedapm_mpi.tracking.summary import (
    PART_NAMES,
    clients_of,
    share_of_clients,
    summarize_run,
)
from fedapm_mpi.training.client import open_client
from fedapm_mpi.training.context import build_transforms, payload_layout
from fedapm_mpi.training.evaluation import load_evaluated_model
from fedapm_mpi.training.model_fingerprint import contents, same_as_trained
from fedapm_mpi.training.payload import PayloadLayout
from fedapm_mpi.training.trust import require
from fedapm_mpi.utils.atomic_io import open_regular
from fedapm_mpi.utils.text import one_line

P = ParamSpec("P")
T = TypeVar("T")


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
        if not (is_run or os.path.lexists(run.path / FILE)):
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

    def client_model(self, client: int | str, *, trust: bool = False) -> nn.Module:
        """Return a client's personal model; see `load_client_model`."""
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
        msg = f"cannot read {self.path / FILE} ({error.strerror})"
        if not (self.path / "config.yaml").is_file():
            msg += f": {self.path} is not a run directory"
        return DataError(msg)


def _client(row: Mapping[str, str], metrics: MetricSet) -> dict[str, Any]:
    values = {key: float(row[key] or "nan") for key in metrics.names}
    return {"client": int(row["client"]), "name": row["name"], **values}


def read_config(run: Path) -> Config:
    """Return the resolved configuration of a run."""
    path = run / "config.yaml"
    try:
        with open_regular(path) as file:
            values, _ = with_new_names(parse(file.read().decode("utf-8")))
            config = Config.from_plain(values)
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


def _describe_error(function: Callable[P, T]) -> Callable[P, T]:
    """Turn exceptions from damaged files of a run into a `DataError`."""

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except FedAPMError:
            raise
        except Exception as error:
            text = one_line(f"{type(error).__name__}: {error}")
            run = args[0] if args else kwargs.get("run")
            msg = f"the final state of {run} does not fit its configuration ({text})"
            raise DataError(msg) from error

    return checked


@_describe_error
def load_client_model(
    run: Path | str, client: int | str, *, trust: bool = False
) -> nn.Module:
    """Return a client's personal model, as the last evaluation of a run had it.

    That is its personal part and the shared part u, or what an algorithm such as Ditto
    or fine-tuning makes for its client; the latter trains again.

    Parameters
    ----------
    run
        Directory of a finished run; its data set must still be where it was.
    client
        The client: its number from 0 on, or its name in the data set. A string is a
        name first, and a number only if no client is called so.
    trust
        Whether to import own parts that the run names though it was not made here, on
        this account: that runs their code, with the options in its ``config.yaml``.

    Raises
    ------
    DataError
        If the run is not finished or has no such client, or its model is built in
        another way now.
    ConfigError
        If the run names own parts and is not trusted.
    """
    run = Path(run)
    final = _final(run, trusted=trust, way="trust=True")
    client = find_client(run, final.manifest.client_names, client)
    states = _states(run)
    same_as_trained(run, contents(final.groups), materialized=client in states)
    group = final.groups.of(client)
    config, algorithm = final.config, final.algorithm
    rounds = 0  # without a random stream, that is of no account
    if algorithm.has_personal_model:
        rounds = Run(run).records[-1]["round"]
    payload = torch.zeros(final.payload.down_length, dtype=group.model.dtype)
    final.payload.pack(final.server["rows"], final.server["buffers"], payload)
    opened = open_client(
        final,
        client,
        states.get(client, group.new_client(algorithm)),
        payload,
        purpose="personalise",
        round_index=rounds,
    )
    weight = float(client_weights(config, final.manifest)[client])
    load_evaluated_model(config, algorithm, opened, weight)
    module: nn.Module = opened.model.module.eval()
    return module


def find_client(run: Path, names: Sequence[str], client: object) -> int:
    """Return a client's number from its number or its name.

    Raises
    ------
    DataError
        If there is no such client; the message suggests the nearest name.
    """
    if isinstance(client, str):
        found = [number for number, name in enumerate(names) if name == client]
        if len(found) > 1:
            msg = f"{run}: {len(found)} clients are called {client!r}; give a number"
            raise DataError(msg)
        if found:
            return found[0]
        if not (client.isascii() and client.isdecimal()):
            near = did_you_mean(client, list(names))
            msg = f"{run} has no client called {one_line(client)!r}{near}"
            raise DataError(msg)
        number = int(client[:19])
    elif isinstance(client, int | np.integer) and not isinstance(client, bool):
        number = int(client)
    else:
        msg = (
            f"a client is given by its number or its name, not by "
            f"{one_line(repr(client))} of type {type(client).__name__}"
        )
        raise DataError(msg)
    if not 0 <= number < len(names):
        msg = f"{run} has clients 0 to {len(names) - 1}, not {one_line(str(client))}"
        raise DataError(msg)
    return number


@_describe_error
def recompute_digest(run: Path | str, *, trust: bool = False) -> str:
    """Return the digest of the state in a run's ``final`` folder.

    With `trust`, own parts of a run that was not made here are imported.
    """
    run = Path(run)
    final = _final(run, trusted=trust, way="--trust")
    server, states = final.server, _states(run)
    groups = final.groups
    untouched = [state_digest(final.new_client(g)) for g in groups.members]
    rows = [
        state_digest(states[i]) if i in states else untouched[g]
        for i, g in enumerate(groups.of_client.tolist())
    ]
    table = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(-1, 32)
    return run_digest([server["rows"], server["buffers"]], table)


class _Final(NamedTuple):
    """A finished run, without its clients' states."""

    config: Config
    manifest: Manifest
    algorithm: Algorithm
    groups: ClientGroups
    server: dict[str, Tensor]

    @property
    def payload(self) -> PayloadLayout:
        """Layout of what the server broadcasts."""
        return payload_layout(self.config, self.algorithm, self.groups)

    def new_client(self, group: ClientGroup) -> ClientState:
        """Return the state of a client that has not taken part yet."""
        chain = build_transforms(self.config.update_transforms, self.payload)
        return group.new_client(self.algorithm) | chain.new_client_state()

    def samples(self, client: int, split: str) -> Samples:
        """Return a client's samples, read from the data set."""
        group = self.groups.of(client)
        reader = ShardReader(read_manifest(self.config.data))
        stored = reader.read(client, split)
        reader.close()
        return to_samples(stored, group.inputs, group.model.dtype)


def _final(run: Path, *, trusted: bool, way: str) -> _Final:
    config = read_config(run)
    require(run, config.plain(), trusted=trusted, way=way)
    manifest = read_manifest(config.data).first_clients(config.clients)
    algorithm = adapt(build_plugin(algorithms, config.algorithm))
    groups = build_groups(config, manifest, algorithm.sharing)
    path = run / "final" / "server.safetensors"
    if not path.exists():
        msg = f"{run} is not finished; continue it by: fedapm train --resume {run}"
        raise DataError(msg)
    return _Final(config, manifest, algorithm, groups, _tensors(path))


def _states(run: Path) -> dict[int, ClientState]:
    states: dict[int, ClientState] = {}
    for path in tensor_files(run / "final", "clients-*.safetensors"):
        for key, tensor in _tensors(path).items():
            client, _, name = key.partition("/")
            states.setdefault(int(client), {})[name] = tensor
    return states


def _tensors(path: Path) -> dict[str, Tensor]:
    check_sum(path)
    try:
        return read_tensors(path)
    except READ_ERRORS as error:
        msg = f"{path} is damaged ({str(error)[:200]}); {AGAIN} {path.parent.parent}"
        raise DataError(msg) from error
