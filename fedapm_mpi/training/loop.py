"""The round loop. Every rank runs all of it; read this file first."""

from math import sqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.aggregators import AggregationContext
from fedapm_mpi.algorithms import RoundInfo
from fedapm_mpi.comm import SERVER
from fedapm_mpi.comm.base import gather_client_rows
from fedapm_mpi.errors import EXIT_RESUMABLE, FedAPMError
from fedapm_mpi.federation import plugin_checks as ownchecks
from fedapm_mpi.optim.admm import dot
from fedapm_mpi.placements import client_ranks
from fedapm_mpi.plugins.errors import blame
from fedapm_mpi.plugins.names import user_plugin_label
from fedapm_mpi.storage import checkpoint
from fedapm_mpi.tracking.base import MetricsLogger
from fedapm_mpi.tracking.run_directory import Record, RunDirectory, ranges
from fedapm_mpi.training.client import LocalUpdates, train_clients
from fedapm_mpi.training.context import TrainingContext
from fedapm_mpi.training.evaluation import client_columns, evaluate_clients
from fedapm_mpi.training.preemption import PreemptionGuard
from fedapm_mpi.training.residuals import (
    compute_residuals,
    dual_residual,
    lagrangian,
    resumed_status,
)
from fedapm_mpi.training.server import ServerState, restore_server
from fedapm_mpi.utils.timers import LapTimer, PhaseTimer


class TrainingResult(NamedTuple):
    """How a run ended."""

    exit_code: int
    """0, or `EXIT_RESUMABLE`."""

    round_index: int
    """Rounds done."""

    server: ServerState
    """The server's state, on the server."""


def run(
    context: TrainingContext,
    recorder: RunDirectory,
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
    recorder
        Where rank 0 writes.
    resume
        The checkpoint to go on from.
    identity
        What a later run must share with this one to go on from its checkpoints.
    logger
        Gets the record of every round, on rank 0; what writes ``rounds.jsonl`` is one.
    stop
        Whether the run is to stop; looked at in every round.
    """
    config, comm = context.config, context.comm
    server = restore_server(context, resume)
    start = resume.round_index if resume else 0
    message = torch.zeros(context.payload.down_length, dtype=context.dtype)
    pending: Record = {"round": start}
    lap = LapTimer()
    verdict = resumed_status(context, server, recorder, resume)

    stopping = False
    for t in range(start, config.rounds + 1):
        clock = PhaseTimer()
        stop.begin_round()
        with clock("broadcast"):
            _pack(context, server, message)
            comm.broadcast(message.numpy())

        if t > start or resume is None:  # what is left to do of the round before
            with clock("consensus"):
                found, verdict = compute_residuals(context, server, message, t)
            pending |= found
            last = t == config.rounds or verdict.converged
            if last or t % config.evaluation.every == 0:
                pending |= _evaluate(context, recorder, t, message, clock)
            if comm.rank == SERVER:
                pending["seconds"] = clock.seconds | pending.get("seconds", {})
                pending["wall_seconds"] = lap()
                logger.log(pending, t)
            server.rho = verdict.rho
            if stopping or last or (t > 0 and t % config.checkpoint.every == 0):
                _save(context, recorder, t, server, identity, verdict.converged)
        done = t == config.rounds or verdict.converged
        if stopping or done:
            break
        context.use_penalty(verdict.rho)

        with clock("local"):
            chosen, local = _local(context, t, message)
        largest, failed, slowest, asked = comm.allreduce_max(
            [
                local.largest,
                bool(local.error),
                clock.seconds["local"],
                stop.should_stop(),
            ]
        )
        stopping = asked > 0
        if failed:
            comm.raise_collectively(local.error)
        with (
            clock("reduce"),
            blame(user_plugin_label("aggregator", config.aggregator["name"])),
        ):
            summed_up = AggregationContext(
                round_index=t,
                participants=chosen,
                clients=local.clients,
                seed=config.seed,
                length=context.payload.up_length,
                largest=largest,
            )
            total = context.aggregator.sum(comm, local.increments, summed_up)
        gathered = gather_client_rows(comm, local.clients, local.statistics, width=4)
        if gathered is not None:
            clients, statistics = gathered
            total = ownchecks.check_total(
                config.aggregator, total, context.payload.up_length
            )
            total = context.transforms.decode(total, summed_up)
            with clock("server"):
                pending = _server_work(context, server, t, chosen, total)
                pending |= _statistics(statistics[np.argsort(clients)])
            pending["seconds"] = {
                "local": slowest,
                "local_mean": float(statistics[:, 3].sum())
                / len(client_ranks(comm.size)),
                "reduce": clock.seconds["reduce"],
                "server": clock.seconds["server"],
            }
            pending["bytes"] = {
                "broadcast": message.numel() * message.element_size(),
                "reduce": len(total) * context.aggregator.bytes_per_element,
            }
    return TrainingResult(0 if done else EXIT_RESUMABLE, t, server)


def _local(
    context: TrainingContext, t: int, message: Tensor
) -> tuple[NDArray[np.int64], LocalUpdates]:
    """Return a round's participants, and what this rank's work brings."""
    try:
        chosen = context.federation.participants(t)
    except FedAPMError as error:  # a user's own scheme: the ranks agree on it below
        return np.zeros(0, np.int64), LocalUpdates([], [], [], 0.0, error)
    mine = context.draw(chosen, context.federation.training_costs)
    return chosen, train_clients(context, t, chosen, mine, message)


def _server_work(
    context: TrainingContext,
    server: ServerState,
    t: int,
    chosen: NDArray[np.int64],
    total: NDArray[np.float64],
) -> Record:
    """Update the server's state; return the first part of the round's record."""
    algorithm, u_before = context.algorithm, server.rows[0].clone()
    payload = context.payload
    summed = torch.from_numpy(total)
    increments = payload.model(summed)
    penalties = server.use_penalty(chosen)
    for section in context.groups.space.sections:
        holders = context.groups.clients(section.groups)
        algorithm.server_step(
            server.rows[:, section.place],
            increments[:, section.place],
            _round_info(context, server, t, chosen, holders, penalties),
        )
    ownchecks.check_server(context.config.algorithm, server.rows, t + 1)
    if len(chosen):
        server.buffers.add_(payload.buffers(summed), alpha=1 / len(chosen))
    server.seen[chosen] = True
    server.change = server.rows[0] - u_before
    server.participants = len(chosen)
    record: Record = {
        "round": t + 1,
        "participants": ranges(chosen.tolist()),
        "num_participants": len(chosen),
        "num_clients": context.federation.num_clients,  # over which residuals are
        "coverage": int(server.seen.sum()),
        "rho": server.rho,
        "dual_residual": None,
    }
    if server.rho is not None:
        record["dual_residual"] = dual_residual(context, server)
    if len(server.dual_sum):
        server.dual_sum.add_(payload.dual_change(summed))
        record["dual_sum"] = sqrt(dot(server.dual_sum, server.dual_sum))
    return record


def _round_info(
    context: TrainingContext,
    server: ServerState,
    t: int,
    chosen: NDArray[np.int64],
    holders: NDArray[np.bool_],
    penalties: Tensor,
) -> RoundInfo:
    """Return what the server's step is told of the clients that hold a section.

    `penalties` are those of before the round, (m,).
    """
    here, weights = chosen[holders[chosen]], context.federation.weights
    count = int(holders.sum())
    used = None
    if server.rho is not None:
        before = after = float(count)
        if context.algorithm.adapts_penalty():
            holding = torch.from_numpy(holders)
            both = (penalties, server.penalties)
            before, after = (float((p[holding] / server.rho).sum()) for p in both)
        used = (before, after)
    return RoundInfo(
        index=t,
        num_clients=count,
        participants=len(here),
        weight_sum=float(weights[here].sum()),
        # Exactly 1 where all hold it, whatever rounding makes of the sum.
        weight_total=1.0 if holders.all() else float(weights[holders].sum()),
        penalties=used,
    )


def _statistics(rows: NDArray[np.float64]) -> Record:
    r"""Summarise the participants' rows, which are in client order.

    `drift` is :math:`(\sum_{i \in S} \|u_i - u^t\|^2)^{1/2}` after their local work.
    """
    loss, count, drift = (float(sum(rows[:, k].tolist())) for k in range(3))
    return {
        "train_loss": loss / count if count else None,
        "drift": drift**0.5,
    }


def _evaluate(
    context: TrainingContext,
    recorder: RunDirectory,
    t: int,
    message: Tensor,
    clock: PhaseTimer,
) -> Record:
    with clock("evaluate"):
        found = evaluate_clients(context, message, t)
        record = {}
        if context.config.diagnostics.lagrangian:
            record = lagrangian(context, message)
    if found is None:
        return record
    recorder.write_csv("clients.csv", client_columns(context.task), found.clients)
    return found.record | record


def _pack(context: TrainingContext, server: ServerState, message: Tensor) -> None:
    if context.comm.rank == SERVER:
        context.payload.pack(server.rows, server.buffers, message)


def _save(
    context: TrainingContext,
    recorder: RunDirectory,
    t: int,
    server: ServerState,
    identity: dict[str, Any],
    converged: bool,
) -> None:
    checkpoint.save(
        context.comm,
        recorder.checkpoints,
        t,
        identity=identity,
        server=server.tensors(),
        states=context.table.materialized(),
        keep=context.config.checkpoint.keep,
        converged=converged,
        before=recorder.sync,
    )
