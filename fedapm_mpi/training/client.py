"""Train a rank's participants of a round, and set up one client."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from math import ceil
from time import perf_counter
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.aggregators.transforms import UpdateContext, is_transform_state
from fedapm_mpi.algorithms import ClientState
from fedapm_mpi.config.evaluation_options import SharedBlock
from fedapm_mpi.config.schema import Config
from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.local_objective import LocalObjective
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.errors import FedAPMError, TrainingError
from fedapm_mpi.federation import plugin_checks
from fedapm_mpi.federation.client_groups import ClientGroups
from fedapm_mpi.optim import admm
from fedapm_mpi.optim.solver import LocalSolver, SolverRules, is_optimizer_state
from fedapm_mpi.placements import client_ranks
from fedapm_mpi.plugins.errors import to_fedapm_error
from fedapm_mpi.training.context import TrainingContext
from fedapm_mpi.training.payload import PayloadLayout
from fedapm_mpi.training.stacks import Place, StackedObjective

Purpose = Literal["batches", "personalise"]
"""What a client is opened for: training, or an evaluation of its own model."""


class ClientSource(Protocol):
    """What a client is opened from; a `TrainingContext` is one."""

    @property
    def config(self) -> Config:
        """The experiment."""
        ...

    @property
    def groups(self) -> ClientGroups:
        """The clients' models."""
        ...

    @property
    def solver(self) -> SolverRules:
        """How clients step."""
        ...

    @property
    def payload(self) -> PayloadLayout:
        """Layout of the broadcast."""
        ...

    def samples(self, client: int, split: str) -> Samples:
        """Return a client's samples of one part of its data."""
        ...


@dataclass(frozen=True)
class OpenClient:
    """A client on the device, made ready by `open_client`."""

    model: PartitionedModel
    """The rank's one model of the client's group, with the client's buffers."""

    state: ClientState
    """The client's state, without the tensors of update transforms and optimizers;
    aliases what was passed where the device is the CPU."""

    broadcast: Tensor
    """(rows, d_group) the server's rows, in the layout of the client's model."""

    make_objective: Callable[[], LocalObjective]

    @cached_property
    def objective(self) -> LocalObjective:
        """The client's training loss; its samples are read at the first access."""
        return self.make_objective()


class LocalUpdates(NamedTuple):
    """The result of a rank's local training in a round."""

    participants: NDArray[np.int64]
    """(k,) all clients that take part, ascending."""

    clients: list[int]
    """The participants that this rank trained."""

    updates: list[NDArray[np.float64]]
    """(up_length,) each."""

    statistics: list[list[float]]
    """Of each participant: loss sum, loss count, squared drift, steps, clipped steps,
    seconds."""

    largest: float
    """Largest magnitude in any of the updates."""

    error: FedAPMError | None
    """Why the rank's training failed; the updates are then incomplete."""


def train_clients(
    context: TrainingContext,
    t: int,
    participants: NDArray[np.int64],
    clients: Iterable[int],
    message: Tensor,
) -> LocalUpdates:
    """Train the participants of a round that are assigned to this rank.

    Parameters
    ----------
    context
        The parts of the run.
    t
        Rounds before this one.
    participants : (k,)
        All that take part, ascending.
    clients
        Those that this rank trains; the next is drawn when one is done.
    message : (down_length,)
        What the server has broadcast.
    """
    result = LocalUpdates(participants, [], [], [], 0.0, None)
    largest = 0.0

    def train(client: int, place: Place | None) -> _Trained:
        return _train(
            context,
            UpdateContext(
                client,
                t,
                participants,
                context.config.seed,
                context.payload.model_length,
            ),
            message,
            place,
        )

    stacks = context.stacks
    share = ceil(len(participants) / len(client_ranks(context.comm.size)))
    for members in stacks.divide(clients, context.groups.of_client, share):
        begin = perf_counter()
        trained = stacks.run(members, train)
        seconds = (perf_counter() - begin) / len(trained)
        for client, found in zip(members.clients, trained, strict=True):
            if isinstance(found, BaseException):
                error = _of_client(found, client, t)
                return result._replace(error=error, largest=0.0)
            largest = max(largest, float(np.abs(found.update).max(initial=0.0)))
            result.clients.append(client)
            result.updates.append(found.update)
            result.statistics.append([*found[1:], seconds])
    return result._replace(largest=largest)


def _of_client(error: BaseException, client: int, t: int) -> FedAPMError:
    """Return an error of a client's training, which all ranks raise together."""
    if isinstance(error, KeyboardInterrupt):
        raise error
    found = to_fedapm_error(error)
    if found is not error:
        found.args = (f"client {client}, round {t + 1}: {found}",)
    return found


class _Trained(NamedTuple):
    """What one participant's work has come to."""

    update: NDArray[np.float64]
    loss_sum: float
    loss_count: int
    drift: float
    steps: int
    clipped: int


def _train(
    context: TrainingContext,
    update_context: UpdateContext,
    message: Tensor,
    place: Place | None,
) -> _Trained:
    """Do one participant's work, in a row of a stack or alone."""
    client = update_context.client
    extend = partial(context.groups.extend, client)
    stored = context.table.checkout(client)
    opened = open_client(
        context,
        client,
        stored,
        message,
        purpose="batches",
        round_index=update_context.round_index,
        place=place,
    )
    state, broadcast, problem = opened.state, opened.broadcast, opened.objective
    follow_dual = context.config.diagnostics.dual_sum
    dual_before = state["dual"].clone().double() if follow_dual else None
    delta = plugin_checks.check_update(
        context.config.algorithm,
        context.algorithm.client_step(
            broadcast, state, problem, float(context.federation.weights[client])
        ),
        *broadcast.shape,
    )
    plugin_checks.check_solver_used(
        context.config.algorithm, context.solver, problem, problem.loss_count
    )
    _keep_buffers(opened)
    buffers = dual = None
    if context.payload.buffer_length:
        received = context.payload.buffers(message).double()
        buffers = state["buffers"].cpu().double() - received
    if dual_before is not None:
        dual = extend((state["dual"].double() - dual_before).cpu())
        if context.algorithm.client_units():
            dual.mul_(float(context.federation.weights[client]))
    update = context.payload.pack_update(extend(delta.cpu()), buffers, dual)
    of_transforms = {name: stored[name] for name in stored if is_transform_state(name)}
    of_optimizers = {name: stored[name] for name in stored if is_optimizer_state(name)}
    update = context.transforms.encode(update, of_transforms, update_context)
    context.table.commit(client, state | of_transforms | of_optimizers)
    drift = admm.squared_distance(state["shared"], broadcast[0])
    _check_finite(update, client, update_context.round_index)
    solver = problem.solver
    return _Trained(
        update,
        problem.loss_sum,
        problem.loss_count,
        drift,
        solver.steps,
        solver.clipped,
    )


def _check_finite(update: NDArray[np.float64], client: int, t: int) -> None:
    if not np.isfinite(np.abs(update).max(initial=0.0)):
        msg = (
            f"the update of client {client} in round {t + 1} is not finite; "
            "lower the learning rate or the penalty"
        )
        raise TrainingError(msg)


def _keep_buffers(opened: OpenClient) -> None:
    """Write the buffers of the model to the client's state."""
    state = opened.state
    if "buffers" in state or "counters" in state:
        floats, counters = opened.model.read_buffers()
        if "buffers" in state:
            state["buffers"].copy_(floats)
        if "counters" in state:
            state["counters"].copy_(counters)


def open_client(
    source: ClientSource,
    client: int,
    state: ClientState,
    payload: Tensor,
    *,
    purpose: Purpose,
    round_index: int,
    shared_block: SharedBlock = "server",
    place: Place | None = None,
) -> OpenClient:
    """Set the model of a client's group to the client; the one way to do it.

    The model's parameters are left as they are: what they become is up to the
    algorithm.

    Parameters
    ----------
    source
        Configuration, models and samples.
    client
        The client.
    state
        Its state. In training, averaged buffers and kept optimizer states are written
        to it.
    payload : (down_length,)
        What the server has broadcast.
    purpose
        ``batches`` to train, ``personalise`` to evaluate: it addresses the random
        streams of the objective.
    round_index
        Rounds before this one.
    shared_block
        Whose averaged buffers an evaluation looks at; training starts from the
        server's.
    place
        The client's row, if it is trained in a stack.
    """
    group, layout = source.groups.of(client), source.payload
    model = group.model
    solver = _solver(source, state, round_index if purpose == "batches" else None)
    state = {
        name: tensor.to(model.device)
        for name, tensor in state.items()
        if not (is_transform_state(name) or is_optimizer_state(name))
    }
    broadcast = source.groups.restrict(client, layout.model(payload)).to(model.device)
    training = purpose == "batches"
    buffers = state.get("buffers", torch.zeros(0))
    if layout.buffer_length:
        if training:
            buffers.copy_(layout.buffers(payload))
        elif shared_block == "server":
            buffers = layout.buffers(payload)
    if "buffers" in state or "counters" in state:
        model.write_buffers(buffers, state.get("counters", torch.zeros(0)))
    make_objective = partial(
        _objective, source, client, purpose, round_index, solver, place
    )
    return OpenClient(model, state, broadcast, make_objective)


def _solver(
    source: ClientSource, state: ClientState, round_index: int | None
) -> LocalSolver:
    """Return how a client steps in a round, or, without one, in an evaluation.

    An evaluation has fresh optimizer states and the configured step sizes.
    """
    if round_index is None:
        return LocalSolver(source.solver)
    kept = {name: state[name] for name in state if is_optimizer_state(name)}
    return LocalSolver(source.solver, round_index, kept or None)


def _objective(
    source: ClientSource,
    client: int,
    purpose: Purpose,
    round_index: int,
    solver: LocalSolver,
    place: Place | None,
) -> LocalObjective:
    model, config = source.groups.of(client).model, source.config
    kind = LocalObjective if place is None else partial(StackedObjective, place)
    return kind(
        model,
        source.samples(client, "train").to(model.device),
        seed=config.seed,
        round_index=round_index,
        client=client,
        purpose=purpose,
        bf16=config.precision == "bf16",
        solver=solver,
    )
