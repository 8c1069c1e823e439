"""The round loop. Every rank runs all of it; read this file first.

A round is: broadcast the server's model, finish the record of the round before (the
broadcast model is what that round led to), train the participants, sum their updates,
and take the server's step.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.aggregators import AggregationContext
from fedapm_mpi.comm import SERVER
from fedapm_mpi.comm.base import gather_client_rows
from fedapm_mpi.errors import EXIT_RESUMABLE, FedAPMError
from fedapm_mpi.federation import plugin_checks
from fedapm_mpi.optim.solver import SolverRules
from fedapm_mpi.placements import client_ranks
from fedapm_mpi.plugins.errors import blame
from fedapm_mpi.plugins.names import user_plugin_label
from fedapm_mpi.storage import checkpoint
from fedapm_mpi.tracking.base import MetricsLogger
from fedapm_mpi.tracking.run_directory import Record, RunDirectory
from fedapm_mpi.training.client import LocalUpdates, train_clients
from fedapm_mpi.training.context import TrainingContext
from fedapm_mpi.training.evaluation import client_columns, evaluate_clients
from fedapm_mpi.training.multiplier import multiplier_record
from fedapm_mpi.training.preemption import PreemptionGuard
from fedapm_mpi.training.residuals import (
    ConvergenceStatus,
    compute_residuals,
    lagrangian,
    resumed_status,
)
from fedapm_mpi.training.server import ServerState, restore_server
from fedapm_mpi.training.server_step import server_step
from fedapm_mpi.utils.timers import LapTimer, PhaseTimer


class TrainingResult(NamedTuple):
    """How a run ended."""

    exit_code: int
    """0, or `EXIT_RESUMABLE`."""

    round_index: int
    """Rounds done."""

    server: ServerState
    """The server's state, on the server."""


def train(
    context: TrainingContext,
    directory: RunDirectory,
    *,
    resume: checkpoint.CheckpointInfo | None = None,
    identity: dict[str, Any],
    logger: MetricsLogger,
    stop: PreemptionGuard,
) -> TrainingResult:
    """Train from the start or from a checkpoint to the last round; a collective call.

    Parameters
    ----------
    context
        The parts of the run.
    directory
        Where rank 0 writes.
    resume
        The checkpoint to continue from.
    identity
        What a later run must share with this one to continue from its checkpoints.
    logger
        Gets the record of every round, on rank 0; what writes ``rounds.jsonl`` is one.
    stop
        Whether the run is to stop; asked in every round.
    """
    server, start = restore_server(context, resume), resume.round_index if resume else 0
    message = torch.zeros(context.payload.down_length, dtype=context.dtype)
    record: Record = {"round": start}
    status = resumed_status(context, server, directory, resume)
    lap, stopping = LapTimer(), False
    for t in range(start, context.config.rounds + 1):
        timer = PhaseTimer()
        stop.begin_round()
        broadcast_model(context, server, message, timer)
        if t > start or resume is None:
            found, status = finish_round(context, directory, server, message, t, timer)
            if context.comm.rank == SERVER:
                seconds = timer.seconds | record.get("seconds", {})
                record |= {**found, "seconds": seconds, "wall_seconds": lap()}
                logger.log(record, t)
            if stopping or _checkpoint_due(context, t, status):
                save_checkpoint(context, directory, t, server, identity, status)
        done = t == context.config.rounds or status.converged
        if stopping or done:
            break
        context.use_penalty(status.rho)
        local = train_locally(context, t, message, timer)
        ranks = agree(context, local, stop, timer)
        stopping = ranks.stopping
        summed = aggregate(context, t, local, ranks.largest, timer)
        if summed is not None:
            with timer("server"):
                record = server_step(
                    context, server, t, local.participants, summed.total
                )
                record |= summarize_updates(summed.statistics)
                record |= summarize_steps(context.solver, t, summed.statistics)
            record |= round_costs(context, message, summed, ranks.slowest, timer)
    return TrainingResult(0 if done else EXIT_RESUMABLE, t, server)


def broadcast_model(
    context: TrainingContext, server: ServerState, message: Tensor, timer: PhaseTimer
) -> None:
    """Overwrite `message`, (down_length,), on all ranks with what the server sends."""
    with timer("broadcast"):
        if context.comm.rank == SERVER:
            context.payload.pack(server.rows, server.buffers, message)
        context.comm.broadcast(message.numpy())


def finish_round(
    context: TrainingContext,
    directory: RunDirectory,
    server: ServerState,
    message: Tensor,
    t: int,
    timer: PhaseTimer,
) -> tuple[Record, ConvergenceStatus]:
    """Measure and evaluate the model after `t` rounds; a collective call.

    Returns
    -------
    Record
        The residuals' and the evaluation's part of the round's record, on the server.
    ConvergenceStatus
        On every rank; the server takes over its penalty.
    """
    config = context.config
    with timer("consensus"):
        record, status = compute_residuals(context, server, message, t)
    last = t == config.rounds or status.converged
    if last or t % config.evaluation.every == 0:
        record |= evaluate_round(context, directory, message, t, timer)
        if config.diagnostics.multiplier:
            with timer("evaluate"):
                record |= multiplier_record(context, server.seen, message, t)
    server.rho = status.rho
    return record, status


def evaluate_round(
    context: TrainingContext,
    directory: RunDirectory,
    message: Tensor,
    t: int,
    timer: PhaseTimer,
) -> Record:
    """Evaluate clients after `t` rounds; a collective call.

    Returns the evaluation's part of the round's record, and writes ``clients.csv``, on
    the server.
    """
    with timer("evaluate"):
        found = evaluate_clients(context, message, t)
        record = {}
        if context.config.diagnostics.lagrangian:
            record = lagrangian(context, message)
    if found is None:
        return record
    columns = client_columns(context.task, context.config.evaluation.variants)
    directory.write_csv("clients.csv", columns, found.clients)
    return found.record | record


def train_locally(
    context: TrainingContext, t: int, message: Tensor, timer: PhaseTimer
) -> LocalUpdates:
    """Return what this rank's participants of a round bring; raises no `FedAPMError`.

    An error is returned, for all ranks to raise it together in `agree`.
    """
    federation = context.federation
    with timer("local"):
        try:
            chosen = federation.participants(t)
        except FedAPMError as error:  # of a user's own scheme
            return LocalUpdates(np.zeros(0, np.int64), [], [], [], 0.0, error)
        mine = context.draw(chosen, federation.training_costs)
        return train_clients(context, t, chosen, mine, message)


class RankMaxima(NamedTuple):
    """The largest of all ranks' values after their local training."""

    largest: float
    """Magnitude in any update."""

    slowest: float
    """Seconds of local training."""

    stopping: bool
    """Whether any rank is asked to stop."""


def agree(
    context: TrainingContext,
    local: LocalUpdates,
    stop: PreemptionGuard,
    timer: PhaseTimer,
) -> RankMaxima:
    """Return what all ranks must know after local training; a collective call.

    Raises
    ------
    FedAPMError
        On every rank, if any rank's local training failed.
    """
    largest, failed, slowest, asked = context.comm.allreduce_max(
        [
            local.largest,
            bool(local.error),
            timer.seconds["local"],
            stop.should_stop(),
        ]
    )
    if failed:
        context.comm.raise_collectively(local.error)
    return RankMaxima(largest, slowest, asked > 0)


class SummedUpdates(NamedTuple):
    """What the server receives of a round."""

    total: NDArray[np.float64]
    """(up_length,) sum of the updates."""

    statistics: NDArray[np.float64]
    """(k, 6) statistics of the participants, in client order; see `LocalUpdates`."""


def aggregate(
    context: TrainingContext,
    t: int,
    local: LocalUpdates,
    largest: float,
    timer: PhaseTimer,
) -> SummedUpdates | None:
    """Sum the updates of all ranks; a collective call.

    Returns the sum on the server, `None` elsewhere. `largest` is the largest magnitude
    in any rank's updates.
    """
    part, length = context.config.aggregator, context.payload.up_length
    about = AggregationContext(
        round_index=t,
        participants=local.participants,
        clients=local.clients,
        seed=context.config.seed,
        length=length,
        largest=largest,
    )
    with timer("reduce"), blame(user_plugin_label("aggregator", part["name"])):
        total = context.aggregator.sum(context.comm, local.updates, about)
    gathered = gather_client_rows(
        context.comm, local.clients, local.statistics, width=6
    )
    if gathered is None:
        return None
    clients, statistics = gathered
    total = plugin_checks.check_total(part, total, length)
    total = context.transforms.decode(total, about)
    return SummedUpdates(total, statistics[np.argsort(clients)])


def summarize_updates(statistics: NDArray[np.float64]) -> Record:
    r"""Return the participants' part of a round's record.

    `drift` is :math:`(\sum_{i \in S} \|u_i - u^t\|^2)^{1/2}` after their local work.
    `statistics` are (k, 6), in client order.
    """
    loss, count, drift = (float(sum(statistics[:, k].tolist())) for k in range(3))
    return {
        "train_loss": loss / count if count else None,
        "drift": drift**0.5,
    }


def summarize_steps(
    rules: SolverRules, t: int, statistics: NDArray[np.float64]
) -> Record:
    """Return what schedules and clipping did in round t, if there are any.

    `lr_factor` has the factor of each block's step size at the beginning of the round.
    """
    record: Record = {}
    if factors := rules.factors(t):
        record["lr_factor"] = dict(factors)
    if rules.clip is not None:
        steps, clipped = statistics[:, 3].sum(), statistics[:, 4].sum()
        record |= {"local_steps": int(steps), "clipped_steps": int(clipped)}
    return record


def round_costs(
    context: TrainingContext,
    message: Tensor,
    summed: SummedUpdates,
    slowest: float,
    timer: PhaseTimer,
) -> Record:
    """Return the seconds and bytes of a round's record."""
    hosts = len(client_ranks(context.comm.size))
    return {
        "seconds": {
            "local": slowest,
            "local_mean": float(summed.statistics[:, 5].sum()) / hosts,
            "reduce": timer.seconds["reduce"],
            "server": timer.seconds["server"],
        },
        "bytes": {
            "broadcast": message.numel() * message.element_size(),
            "reduce": len(summed.total) * context.aggregator.bytes_per_element,
        },
    }


def save_checkpoint(
    context: TrainingContext,
    directory: RunDirectory,
    t: int,
    server: ServerState,
    identity: dict[str, Any],
    status: ConvergenceStatus,
) -> None:
    """Write the checkpoint after `t` rounds; a collective call."""
    checkpoint.save(
        context.comm,
        directory.checkpoints,
        t,
        identity=identity,
        server=server.tensors(),
        states=context.table.materialized(),
        keep=context.config.checkpoint.keep,
        converged=status.converged,
        before=directory.sync,
    )


def _checkpoint_due(
    context: TrainingContext, t: int, status: ConvergenceStatus
) -> bool:
    last = t == context.config.rounds or status.converged
    return last or (t > 0 and t % context.config.checkpoint.every == 0)
