"""The server's step of a round: the algorithm's, and what is recorded of it."""

from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.algorithms import RoundInfo
from fedapm_mpi.federation import plugin_checks
from fedapm_mpi.optim.admm import dot
from fedapm_mpi.tracking.run_directory import Record
from fedapm_mpi.training.context import TrainingContext
from fedapm_mpi.training.residuals import dual_residual
from fedapm_mpi.training.server import ServerState
from fedapm_mpi.utils.text import format_ids


def server_step(
    context: TrainingContext,
    server: ServerState,
    t: int,
    chosen: NDArray[np.int64],
    total: NDArray[np.float64],
) -> Record:
    """Update the server's state; return the first part of the round's record.

    Parameters
    ----------
    context
        The parts of the run.
    server
        The server's state, changed in place.
    t
        Rounds before this one.
    chosen : (k,)
        The participants, ascending.
    total : (up_length,)
        Sum of their updates.
    """
    algorithm, u_before = context.algorithm, server.rows[0].clone()
    payload = context.payload
    summed = torch.from_numpy(total)
    updates = payload.model(summed)
    penalties = server.use_penalty(chosen)
    for section in context.groups.space.sections:
        holders = context.groups.clients(section.groups)
        algorithm.server_step(
            server.rows[:, section.place],
            updates[:, section.place],
            _round_info(context, server, t, chosen, holders, penalties),
        )
    plugin_checks.check_server(context.config.algorithm, server.rows, t + 1)
    if len(chosen):
        server.buffers.add_(payload.buffers(summed), alpha=1 / len(chosen))
    server.seen[chosen] = True
    server.change = server.rows[0] - u_before
    server.participants = len(chosen)
    record: Record = {
        "round": t + 1,
        "participants": format_ids(chosen.tolist()),
        "num_participants": len(chosen),
        "num_clients": context.federation.num_clients,  # over which residuals are
        "coverage": int(server.seen.sum()),
        "rho": server.rho,
        "dual_residual": None,
    }
    if server.rho is not None:
        record["dual_residual"] = dual_residual(context, server)
    if payload.dual_sum:
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
    """Return what the server's step knows of the clients that hold a segment.

    `penalties` are those of before the round, (m,).
    """
    here, weights = chosen[holders[chosen]], context.federation.weights
    count = int(holders.sum())
    # Exactly 1 where all hold it, whatever rounding makes of the sum.
    weight_total = 1.0 if holders.all() else float(weights[holders].sum())
    used = None
    if server.rho is not None:
        weighed = context.algorithm.client_units()
        before = after = weight_total if weighed else float(count)
        if context.algorithm.adapts_penalty():
            holding = torch.from_numpy(holders)
            shares = [p[holding] / server.rho for p in (penalties, server.penalties)]
            if weighed:
                shares = [p * torch.from_numpy(weights)[holding] for p in shares]
            before, after = (float(p.sum()) for p in shares)
        used = (before, after)
    return RoundInfo(
        index=t,
        num_clients=count,
        participants=len(here),
        weight_sum=float(weights[here].sum()),
        weight_total=weight_total,
        penalties=used,
        step_factor=context.solver.factors(t).get("shared", 1.0),
    )
