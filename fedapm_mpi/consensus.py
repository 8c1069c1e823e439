"""How far clients are from consensus: residuals, in all and by parameter, and more.

Every rank looks at its own clients' copies of the shared block; a few numbers a client
are gathered, in client order, so that the figures are the same on any number of ranks.
"""

from math import sqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import admm
from .algorithms import ClientState
from .errors import TrainingError
from .evaluation import mean_loss
from .recorder import Record, Recorder
from .server import Server
from .session import Session

COLUMNS = 3
"""Of each client and block: |u_i - u|^2, |u_i|^2, |pi_i|^2."""


class Verdict(NamedTuple):
    """What follows from the residuals for the rounds to come, the same on all ranks."""

    rho: float | None
    """Penalty of the next round; `None` for algorithms without one."""

    converged: bool
    """Whether the stop rule is met."""


def resumed_verdict(session: Session, server: Server, recorder: Recorder) -> Verdict:
    """Return what held where a run stopped; the initial state's for a new one.

    A collective call for algorithms whose penalty adapts and runs with a stop rule.
    """
    last = recorder.records[-1] if recorder.records else {}
    verdict = Verdict(server.rho, bool(last.get("converged")))
    if _steered(session):
        verdict = session.comm.share(verdict)
    return verdict


def measure(
    session: Session, server: Server, message: Tensor, t: int
) -> tuple[Record, Verdict]:
    """Measure consensus after `t` rounds; a collective call.

    Returns
    -------
    Record
        What the round's record says of it, on the server; elsewhere it is empty.
    Verdict
        On every rank.
    """
    algorithm: Any = session.algorithm
    rho: float | None = getattr(algorithm, "rho", None)
    verdict = Verdict(rho, converged=False)
    steered = _steered(session)
    if not (steered or _due(session, t)):
        return {}, verdict
    table = _gather(session, message)
    record: Record = {}
    if table is not None:
        record, total = _summarise(session, server, table)
        if steered and server.participants:  # else nothing has moved to judge by
            verdict = _judge(session, server, total, t)
            if verdict.converged:
                record["converged"] = True
    if steered:
        verdict = session.comm.share(verdict)
    return record, verdict


def lagrangian(session: Session, message: Tensor) -> Record:
    """Evaluate the augmented Lagrangian at all clients' own blocks; a collective call.

    A pass over all training samples, without dropout. Its record also has the Lyapunov
    function, which differs where u steps end at a tolerance.
    """
    algorithm: Any = session.algorithm
    rows = []
    u = message[: session.model.size_shared]
    for client in session.table.hosted:
        state, weight = session.table.view(client), float(session.weights[client])
        session.load(state)
        loss = mean_loss(session.model, session.samples(client, "train"))
        rows.append(algorithm.lagrangian(state, u, loss, weight))
    mine = np.array(rows, dtype=np.float64).reshape(-1, 2)
    everyone = np.arange(session.num_clients)
    table = session.comm.gather_rows(mine, session.per_rank(everyone))
    if table is None:
        return {}
    shares, excess = table[session.in_client_order(everyone)].T
    value = float(sum(shares.tolist()))
    if not np.isfinite(value):
        msg = "the augmented Lagrangian is not finite; lower the learning rate"
        raise TrainingError(msg)
    return {"lagrangian": value, "lyapunov": value + float(sum(excess.tolist()))}


def _steered(session: Session) -> bool:
    """Return whether the residuals of a round decide on the next."""
    balance = getattr(session.algorithm, "balance", None)
    return session.config.tolerance is not None or balance is not None


def _due(session: Session, t: int) -> bool:
    every = session.config.diagnostics.every
    return t % every == 0 or t == session.config.rounds


def _judge(
    session: Session, server: Server, residuals: admm.Residuals, t: int
) -> Verdict:
    algorithm: Any = session.algorithm
    adapt = getattr(algorithm, "next_rho", None)
    rho = adapt(residuals, t) if adapt else algorithm.rho
    rule = session.config.tolerance
    if rule is None or not server.seen.all():
        # Clients that never took part agree with the initial model, not with the rest.
        return Verdict(rho, converged=False)
    entries = session.num_clients * session.model.size_shared
    done = residuals.within(rule.absolute, rule.relative, entries)
    return Verdict(rho, done)


def _gather(session: Session, message: Tensor) -> NDArray[np.float64] | None:
    """Return (m, blocks, 3) on the server: in all, then by parameter if asked for."""
    u = message[: session.model.size_shared].double()
    cuts = _cuts(session)
    untouched: list[float] | None = None
    rows = []
    for client in session.table.hosted:
        if session.table.is_touched(client):
            rows.append(_row(session.table.view(client), u, cuts))
        else:
            # All who have never taken part are alike.
            untouched = untouched or _row(session.table.view(client), u, cuts)
            rows.append(untouched)
    mine = np.array(rows, dtype=np.float64).reshape(len(rows), COLUMNS * len(cuts))
    everyone = np.arange(session.num_clients)
    table = session.comm.gather_rows(mine, session.per_rank(everyone))
    if table is None:
        return None
    ordered = table[session.in_client_order(everyone)]
    return ordered.reshape(session.num_clients, len(cuts), COLUMNS)


def _cuts(session: Session) -> list[slice]:
    """Return where the whole shared block lies, and each of its parameters."""
    model = session.model
    cuts = [slice(0, model.size_shared)]
    if session.config.diagnostics.blocks:
        cuts += [place for _, place in model.shared_places()]
    return cuts


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


def _summarise(
    session: Session, server: Server, table: NDArray[np.float64]
) -> tuple[Record, admm.Residuals]:
    cuts = _cuts(session)
    sums = [
        [float(sum(column)) for column in block.T.tolist()]
        for block in table.transpose(1, 0, 2)
    ]
    found = [
        _residuals(server, cut, block, session.num_clients)
        for cut, block in zip(cuts, sums, strict=True)
    ]
    total = found[0]
    record: Record = {
        "primal_residual": total.primal,
        "primal_relative": total.primal_relative,
    }
    dual = bool(len(server.penalties))
    if dual:
        record["dual_relative"] = total.dual_relative
    if len(cuts) > 1:
        record["blocks"] = {
            name: _block(residuals, dual)
            for (name, _), residuals in zip(
                session.model.shared_places(), found[1:], strict=True
            )
        }
    return record, total


def _residuals(
    server: Server, cut: slice, sums: list[float], num_clients: int
) -> admm.Residuals:
    gaps, copies, duals = sums
    u = server.rows[0, cut]
    return admm.Residuals(
        primal=sqrt(gaps),
        dual=admm.dual_residual(server.change[cut], server.penalties),
        scale_primal=max(sqrt(copies), sqrt(num_clients * admm.dot(u, u))),
        scale_dual=sqrt(duals),
    )


def _block(residuals: admm.Residuals, dual: bool) -> Record:
    record: Record = {
        "primal": residuals.primal,
        "primal_relative": residuals.primal_relative,
    }
    if dual:
        record["dual"] = residuals.dual
        record["dual_relative"] = residuals.dual_relative
    return record
