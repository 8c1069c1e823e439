"""Models of clients, the multiplier test and the digest, from a final state."""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from fedapm_mpi.algorithms import Algorithm, ClientState, adapt, algorithms
from fedapm_mpi.analysis.run import Run, read_config
from fedapm_mpi.config.schema import Config
from fedapm_mpi.data.manifest import Manifest, read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.samples import Samples, to_samples
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.engine.tensor_files import READ_ERRORS, read_tensors
from fedapm_mpi.errors import DataError, FedAPMError
from fedapm_mpi.federation.builder import build_plugin
from fedapm_mpi.federation.client_groups import ClientGroup, ClientGroups, build_groups
from fedapm_mpi.federation.federation import client_weights
from fedapm_mpi.federation.solver_builder import build_solver
from fedapm_mpi.optim.layer_test import LayerTest
from fedapm_mpi.optim.multiplier_test import GradientSums, multiplier_test
from fedapm_mpi.optim.solver import SolverRules
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.storage.digest import run_digest, state_digest
from fedapm_mpi.storage.final_state import AGAIN, check_sum, tensor_files
from fedapm_mpi.training.client import open_client
from fedapm_mpi.training.context import build_transforms, payload_layout
from fedapm_mpi.training.evaluation import load_evaluated_model
from fedapm_mpi.training.model_fingerprint import contents, same_as_trained
from fedapm_mpi.training.multiplier import holders_of, moments_of
from fedapm_mpi.training.payload import PayloadLayout
from fedapm_mpi.training.trust import require
from fedapm_mpi.utils.text import one_line

P = ParamSpec("P")
T = TypeVar("T")


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
    or fine-tuning makes for its client; the latter trains again. With
    ``evaluation.shared_block: both`` it is the model with the server's u.

    Parameters
    ----------
    run
        Directory of a finished run; its data set must still be where it was.
    client
        The client: its number from 0 on, or its name in the data set. A string is a
        name first, and a number only if no client is called so.
    trust
        Whether to import users' plug-ins of a run that was not made here, on
        this account: that runs their code, with the options in its ``config.yaml``.

    Raises
    ------
    DataError
        If the run is not finished or has no such client, or its model is built in
        another way now.
    ConfigError
        If the run names users' plug-ins and is not trusted.
    """
    found = evaluated_client(Path(run), client, trusted=trust, way="trust=True")
    module: nn.Module = found.model.module.eval()
    return module


class EvaluatedClient(NamedTuple):
    """A client of a finished run, with the model that it is evaluated with."""

    final: "FinalRun"
    client: int
    group: ClientGroup
    model: PartitionedModel


def evaluated_client(
    run: Path, client: int | str, *, trusted: bool, way: str
) -> EvaluatedClient:
    """Return a client with its model; see `load_client_model`, and `final_run`."""
    final = final_run(run, trusted=trusted, way=way)
    client = find_client(run, final.manifest.client_names, client)
    states = client_states(run)
    same_as_trained(run, contents(final.groups), materialized=client in states)
    group = final.groups.of(client)
    config, algorithm = final.config, final.algorithm
    rounds = 0  # without a random stream, that is of no account
    variant = config.evaluation.variants[0]
    if algorithm.has_personal_model or variant.fine_tuned:
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
        shared_block=variant.shared_block,
    )
    weight = float(client_weights(config, final.manifest)[client])
    load_evaluated_model(config, algorithm, opened, weight, variant)
    return EvaluatedClient(final, client, group, opened.model)


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

    With `trust`, users' plug-ins of a run that was not made here are imported.
    """
    run = Path(run)
    final = final_run(run, trusted=trust, way="--trust")
    server, states = final.server, client_states(run)
    groups = final.groups
    untouched = [state_digest(final.new_client(g)) for g in groups.members]
    rows = [
        state_digest(states[i]) if i in states else untouched[g]
        for i, g in enumerate(groups.of_client.tolist())
    ]
    table = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(-1, 32)
    return run_digest([server["rows"], server["buffers"]], table)


@_describe_error
def measure_final_state(
    run: Path | str, *, trust: bool = False
) -> dict[str, LayerTest]:
    """Return the multiplier test of each shared layer in the final state of a run.

    It is that of ``diagnostics.multiplier`` after the last round, over the clients that
    have taken part; its last bits may differ.

    Parameters
    ----------
    run
        Directory of a finished run; its data set must still be where it was.
    trust
        As in `load_client_model`.

    Raises
    ------
    DataError
        If the run is not finished, or its model is built in another way now.
    ConfigError
        If the run names users' plug-ins and is not trusted.
    """
    run = Path(run)
    final = final_run(run, trusted=trust, way="--trust")
    states, groups = client_states(run), final.groups
    same_as_trained(run, contents(groups), materialized=True)
    u = torch.zeros(final.payload.down_length, dtype=groups.members[0].model.dtype)
    final.payload.pack(final.server["rows"], final.server["buffers"], u)
    counted = final.manifest.counts["train"] > 0
    counted &= np.isin(np.arange(len(counted)), list(states))
    rows = torch.zeros(3, groups.space.size, dtype=torch.float64)
    for client in np.flatnonzero(counted).tolist():
        opened = open_client(
            final, client, states[client], u, purpose="personalise", round_index=0
        )
        rows += groups.extend(
            client, moments_of(opened, final.samples(client, "train"))
        )
    holders = holders_of(groups, final.manifest.counts["train"], counted)
    return multiplier_test(GradientSums(*rows), groups.space.places, holders)


class FinalRun(NamedTuple):
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
        phases = self.algorithm.optimizer_states()
        return (
            group.new_client(self.algorithm)
            | chain.new_client_state()
            | self.solver.new_client_state(phases, group.initial)
        )

    @property
    def solver(self) -> SolverRules:
        """How clients step."""
        return build_solver(self.config)

    def samples(self, client: int, split: str) -> Samples:
        """Return a client's samples, read from the data set."""
        group = self.groups.of(client)
        reader = ShardReader(read_manifest(self.config.data))
        stored = reader.read(client, split)
        reader.close()
        return to_samples(stored, group.inputs, group.model.dtype)


def final_run(run: Path, *, trusted: bool, way: str) -> FinalRun:
    """Return a finished run; `way` is how its user can say that it is trusted.

    Raises
    ------
    DataError
        If it is not finished.
    ConfigError
        If it names users' plug-ins and is not trusted.
    """
    config = read_config(run)
    require(run, config.plain(), trusted=trusted, way=way)
    manifest = read_manifest(config.data).first_clients(config.clients)
    algorithm = adapt(build_plugin(algorithms, config.algorithm))
    takes_empty = bool(algorithm.trained_blocks())
    groups = build_groups(config, manifest, algorithm.sharing, takes_empty=takes_empty)
    path = run / "final" / "server.safetensors"
    if not path.exists():
        msg = f"{run} is not finished; continue it by: fedapm train --resume {run}"
        raise DataError(msg)
    return FinalRun(config, manifest, algorithm, groups, _tensors(path))


def client_states(run: Path) -> dict[int, ClientState]:
    """Return the states of the clients that took part in a finished run."""
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
