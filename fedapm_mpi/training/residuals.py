r"""Residuals of consensus, in total and by parameter, and what follows from them.

Every rank measures its own clients' copies of the shared block. A few numbers a client
are gathered, in client order, so that results are the same on any number of ranks.

Where duals and penalties are of the clients' own losses (``units: client``), client i
counts :math:`w_i = m\alpha_i` times in every sum over clients, and so does each entry
of its copy in the stop rule: these are the textbook residuals of
:math:`\min \sum_i w_i f_i` subject to :math:`\sqrt{w_i}\,(u_i - u) = 0`. For equal
weights all :math:`w_i` are 1. Else all are 1 as well, and duals and penalties are of
:math:`\alpha_i f_i`, so that for equal weights 1/m the primal residual is the same and
the dual one is one m-th.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.algorithms import ClientState
from fedapm_mpi.engine.inference import mean_loss
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.errors import FedAPMError, TrainingError
from fedapm_mpi.federation.shared_layout import SharedLayout
from fedapm_mpi.optim import admm
from fedapm_mpi.storage.checkpoint_metadata import CheckpointInfo
from fedapm_mpi.tracking.run_directory import Record, RunDirectory
from fedapm_mpi.training.context import TrainingContext
from fedapm_mpi.training.server import ServerState

COLUMNS = 3
"""Of each client and block: |u_i - u|^2, |u_i|^2, |pi_i|^2."""


class ConvergenceStatus(NamedTuple):
    """What follows from the residuals for the rounds to come, the same on all ranks."""

    rho: float | None
    """Penalty of the next round; `None` for algorithms without one."""

    converged: bool
    """Whether the stop rule is met."""


def resumed_status(
    context: TrainingContext,
    server: ServerState,
    recorder: RunDirectory,
    saved: CheckpointInfo | None,
) -> ConvergenceStatus:
    """Return what held where a run stopped; the initial state's for a new one.

    A collective call for algorithms whose penalty adapts and runs with a stop rule.
    """
    converged = bool(recorder.last.get("converged"))
    if saved is not None and saved.converged is not None:
        converged = saved.converged
    verdict = ConvergenceStatus(server.rho, converged)
    if context.algorithm.adapts_penalty() or context.config.tolerance is not None:
        verdict = context.comm.bcast_object(verdict)
    return verdict


def compute_residuals(
    context: TrainingContext, server: ServerState, message: Tensor, t: int
) -> tuple[Record, ConvergenceStatus]:
    """Measure consensus after `t` rounds; a collective call.

    Returns
    -------
    Record
        The residuals' part of the round's record, on the server; elsewhere empty.
    ConvergenceStatus
        On every rank.
    """
    verdict = ConvergenceStatus(_known_penalty(context, t), converged=False)
    steered = _controls_next_round(context, t)
    if not (steered or _due(context, t)):
        return {}, verdict
    blocks = _blocks(context)
    table = _gather(context, message, blocks)
    record: Record = {}
    if table is not None:
        record, total = _summarize(server, blocks, table, _factors(context))
        if steered and server.participants:  # else nothing has moved
            verdict = _check_convergence(context, server, total, t)
            if verdict.converged:
                record["converged"] = True
    if steered:
        verdict = context.comm.bcast_object(verdict)
    return record, verdict


def lagrangian(context: TrainingContext, message: Tensor) -> Record:
    """Evaluate the augmented Lagrangian at all clients' own blocks; a collective call.

    A pass over all training samples, without dropout. Its record also has the Lyapunov
    function, which differs where u steps end at a tolerance.
    """
    mine = np.zeros((0, 2), dtype=np.float64)
    error: FedAPMError | None = None
    try:
        mine = _lagrangians(context, message)
    except FedAPMError as caught:  # samples that are damaged, say
        error = caught
    context.comm.raise_collectively(error)
    homes = context.federation.homes
    table = context.comm.gatherv(mine, homes.counts(context.comm.size))
    if table is None:
        return {}
    shares, excess = table[homes.client_order()].T
    value = float(sum(shares.tolist()))
    if not np.isfinite(value):
        msg = "the augmented Lagrangian is not finite; lower the learning rate"
        raise TrainingError(msg)
    return {"lagrangian": value, "lyapunov": value + float(sum(excess.tolist()))}


def _lagrangians(context: TrainingContext, message: Tensor) -> NDArray[np.float64]:
    """Return each hosted client's share of the Lagrangian, and the excess, (n, 2)."""
    rows = []
    for client in context.table.hosted:
        state, weight = (
            context.table.peek(client),
            float(context.federation.weights[client]),
        )
        model = _load_own_model(context, client)
        samples = context.samples(client, "train").to(model.device)
        loss = mean_loss(model, samples)
        u = context.groups.restrict(client, context.payload.shared(message))
        rows.append(context.algorithm.lagrangian(state, u, loss, weight))
    return np.array(rows, dtype=np.float64).reshape(-1, 2)


def _load_own_model(context: TrainingContext, client: int) -> PartitionedModel:
    """Return the live model of a client, set to its own blocks and buffers."""
    model, state = context.groups.of(client).model, context.table.peek(client)
    model.shared.copy_(state["shared"])
    model.personal.copy_(state["personal"])
    if "buffers" in state or "counters" in state:
        none = torch.zeros(0)
        model.write_buffers(state.get("buffers", none), state.get("counters", none))
    return model


def _controls_next_round(context: TrainingContext, t: int) -> bool:
    """Return whether the residuals after `t` rounds decide on the next."""
    algorithm = context.algorithm
    balanced = algorithm.adapts_penalty() and algorithm.scheduled_penalty(t) is None
    return context.config.tolerance is not None or balanced


def _known_penalty(context: TrainingContext, t: int) -> float | None:
    """Return the next round's penalty, unless the residuals after `t` rounds change it.

    A schedule counts rounds without participants too.
    """
    scheduled = context.algorithm.scheduled_penalty(t)
    return context.algorithm.admm_penalty() if scheduled is None else scheduled


def _due(context: TrainingContext, t: int) -> bool:
    every = context.config.diagnostics.every
    return t % every == 0 or t == context.config.rounds


def _check_convergence(
    context: TrainingContext, server: ServerState, residuals: admm.Residuals, t: int
) -> ConvergenceStatus:
    rho = context.algorithm.scheduled_penalty(t)
    if rho is None:
        rho = context.algorithm.next_penalty(residuals, t)
    rule = context.config.tolerance
    if rule is None or not server.seen.all():
        # Clients that never took part agree with the initial model, not with the rest.
        return ConvergenceStatus(rho, converged=False)
    whole, factors = _whole(context).pieces, _factors(context)
    entries = sum((at.stop - at.start) * _count(held, factors) for at, held in whole)
    done = residuals.within(rule.absolute, rule.relative, entries)
    return ConvergenceStatus(rho, done)


class _Block(NamedTuple):
    """What residuals are given of: the shared vector, or one of its parameters."""

    name: str
    pieces: list[tuple[slice, NDArray[np.bool_]]]
    """Where it lies at the server, cut where its holders change, and these, (m,)."""


def dual_residual(context: TrainingContext, server: ServerState) -> float:
    """Return the dual residual of the round that the server has just ended."""
    return _dual_residual(server, _whole(context), _factors(context))


def _factors(context: TrainingContext) -> NDArray[np.float64] | None:
    """Return how often each client counts, (m,), their mean being 1; `None` if once."""
    if not context.algorithm.client_units():
        return None
    return context.federation.weights * context.federation.num_clients


def _count(held: NDArray[np.bool_], factors: NDArray[np.float64] | None) -> float:
    """Return the number of clients that hold a section, each counted by its factor."""
    return int(held.sum()) if factors is None else float(factors[held].sum())


def _whole(context: TrainingContext) -> _Block:
    groups = context.groups
    sections = groups.space.sections
    return _Block("", [(s.place, groups.clients(s.groups)) for s in sections])


def _blocks(context: TrainingContext) -> list[_Block]:
    """Return the whole shared vector and, if asked for, each of its parameters."""
    found, groups = [_whole(context)], context.groups
    if context.config.diagnostics.blocks:
        for name, place in groups.space.places.items():
            held = groups.clients(groups.space.holders(name))
            found.append(_Block(name, [(place, held)]))
    return found


def _gather(
    context: TrainingContext, message: Tensor, blocks: list[_Block]
) -> NDArray[np.float64] | None:
    """Return (m, blocks, 3) on the server."""
    groups, u = context.groups, context.payload.shared(message).double()
    cuts = [_cuts(groups.space, g, blocks) for g in range(len(groups.members))]
    # Clients of a group that have never taken part are alike.
    of_initial: dict[int, list[float]] = {}
    rows = []
    for client in context.table.hosted:
        g = int(groups.of_client[client])
        row = None if context.table.is_materialized(client) else of_initial.get(g)
        if row is None:
            state = context.table.peek(client)
            row = _row(state, groups.space.restrict(g, u), cuts[g])
            if not context.table.is_materialized(client):
                of_initial[g] = row
        rows.append(row)
    mine = np.array(rows, dtype=np.float64).reshape(len(rows), COLUMNS * len(blocks))
    homes = context.federation.homes
    table = context.comm.gatherv(mine, homes.counts(context.comm.size))
    if table is None:
        return None
    ordered = table[homes.client_order()]
    return ordered.reshape(context.federation.num_clients, len(blocks), COLUMNS)


def _cuts(space: SharedLayout, group: int, blocks: list[_Block]) -> list[slice]:
    """Return where the blocks lie in a group's vectors; nothing if it has them not."""
    nothing = slice(0, 0)
    named = [space.local(group, block.name) or nothing for block in blocks[1:]]
    return [slice(None), *named]


def _row(state: ClientState, u: Tensor, cuts: list[slice]) -> list[float]:
    own = state["shared"].double()
    gap = own - u
    dual = state.get("dual")
    parts = [gap, own] + ([] if dual is None else [dual.double()])
    row = []
    for cut in cuts:
        squares = [float(torch.dot(part[cut], part[cut])) for part in parts]
        row += [*squares, *[0.0] * (COLUMNS - len(squares))]
    return row


def _summarize(
    server: ServerState,
    blocks: list[_Block],
    table: NDArray[np.float64],
    factors: NDArray[np.float64] | None,
) -> tuple[Record, admm.Residuals]:
    if factors is not None:
        table = table * factors[:, None, None]
    sums = [
        [float(sum(column)) for column in block.T.tolist()]
        for block in table.transpose(1, 0, 2)
    ]
    found = [
        _residuals(server, block, of_clients, factors)
        for block, of_clients in zip(blocks, sums, strict=True)
    ]
    total = found[0]
    record: Record = {
        "primal_residual": total.primal,
        "primal_relative": total.primal_relative,
    }
    dual = bool(len(server.penalties))
    if dual:
        record["dual_relative"] = total.dual_relative
    if len(blocks) > 1:
        record["blocks"] = {
            block.name: _block(residuals, dual)
            for block, residuals in zip(blocks[1:], found[1:], strict=True)
        }
    return record, total


def _residuals(
    server: ServerState,
    block: _Block,
    sums: list[float],
    factors: NDArray[np.float64] | None,
) -> admm.Residuals:
    gaps, copies, duals = sums
    u = server.rows[0]
    spread = sum(
        _count(held, factors) * admm.dot(u[at], u[at]) for at, held in block.pieces
    )
    return admm.Residuals(
        primal=sqrt(gaps),
        dual=_dual_residual(server, block, factors),
        scale_primal=max(sqrt(copies), sqrt(spread)),
        scale_dual=sqrt(duals),
    )


def _dual_residual(
    server: ServerState, block: _Block, factors: NDArray[np.float64] | None
) -> float:
    penalties = server.penalties
    if not len(penalties):
        return 0.0
    if factors is not None:
        penalties = penalties * torch.from_numpy(np.sqrt(factors))
    return admm.dual_residual(
        (server.change[at], _rows(penalties, held)) for at, held in block.pieces
    )


def _rows(values: Tensor, held: NDArray[np.bool_]) -> Tensor:
    # Picking them out takes longer than all else at the server where m is large.
    return values if held.all() else values[torch.from_numpy(held)]


def _block(residuals: admm.Residuals, dual: bool) -> Record:
    record: Record = {
        "primal": residuals.primal,
        "primal_relative": residuals.primal_relative,
    }
    if dual:
        record["dual"] = residuals.dual
        record["dual_relative"] = residuals.dual_relative
    return record
