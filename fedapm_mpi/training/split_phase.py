"""A short training ahead of the test of a candidate split; it writes no files."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.comm import SERVER
from fedapm_mpi.federation.client_groups import ClientGroup
from fedapm_mpi.training import loop
from fedapm_mpi.training.context import TrainingContext
from fedapm_mpi.training.multiplier import sum_exactly
from fedapm_mpi.training.preemption import PreemptionGuard
from fedapm_mpi.training.residuals import compute_residuals
from fedapm_mpi.training.server import ServerState, restore_server
from fedapm_mpi.training.server_step import server_step
from fedapm_mpi.utils.timers import PhaseTimer


class Values(NamedTuple):
    """The parameters at the end of a phase, on one rank."""

    shared: dict[str, Tensor]
    """Of the server's block, by name; equal on all ranks."""

    averaged: dict[str, Tensor]
    """The clients' mean of every personal parameter, likewise."""

    personal: dict[int, dict[str, Tensor]]
    """Each hosted client's own parameters, by name."""

    buffers: dict[int, dict[str, Tensor]]
    """Its buffers and counters."""

    mean_buffers: Tensor
    """The server's averaged buffers."""


class Trained(NamedTuple):
    """The end of a phase."""

    message: Tensor
    """(down_length,) what the server sends, on every rank."""

    stopped: bool
    """Whether the run was asked to stop, so that not all rounds were done."""


def train_phase(
    context: TrainingContext, start: Values | None, stop: PreemptionGuard
) -> Trained:
    """Train all rounds of a context, from the end of another; a collective call.

    Parameters
    ----------
    context
        The parts of the phase.
    start
        Where parameters start: those of the same block as before at their values, those
        that were personal at the clients' mean, and those that were shared at the
        server's. Duals start from zero. `None` for the initial model.
    stop
        Whether the run is to stop; asked in every round.
    """
    server = restore_server(context, None)
    if start is not None:
        _restart(context, server, start)
    message = torch.zeros(context.payload.down_length, dtype=context.dtype)
    for t in range(context.config.rounds + 1):
        timer = PhaseTimer()
        stop.begin_round()
        loop.broadcast_model(context, server, message, timer)
        if t == context.config.rounds:
            break
        _, status = compute_residuals(context, server, message, t)
        server.rho = status.rho
        context.use_penalty(status.rho)
        local = loop.train_locally(context, t, message, timer)
        ranks = loop.agree(context, local, stop, timer)
        summed = loop.aggregate(context, t, local, ranks.largest, timer)
        if summed is not None:
            server_step(context, server, t, local.participants, summed.total)
        if ranks.stopping:
            return Trained(message, stopped=True)
    return Trained(message, stopped=False)


def read_values(context: TrainingContext, message: Tensor) -> Values:
    """Return the parameters at the end of a phase; a collective call."""
    groups, payload = context.groups, context.payload
    shared = {
        name: tensor.clone()
        for name, tensor in groups.space.named(payload.shared(message)).items()
    }
    personal: dict[int, dict[str, Tensor]] = {}
    buffers: dict[int, dict[str, Tensor]] = {}
    for client in context.table.hosted:
        state, group = context.table.peek(client), groups.of(client)
        personal[client] = _named(group, state["personal"])
        buffers[client] = {
            name: state[name].clone() for name in ("buffers", "counters")
            if name in state
        }  # fmt: skip
    averaged = _client_means(context, personal)
    return Values(
        shared, averaged, personal, buffers, payload.buffers(message).double().clone()
    )


def _named(group: ClientGroup, values: Tensor) -> dict[str, Tensor]:
    """Return copies of a client's personal block by parameter name."""
    sizes = group.model.sizes("personal")
    parts = torch.split(values.clone(), list(sizes.values()))
    return dict(zip(sizes, parts, strict=True))


def _client_means(
    context: TrainingContext, personal: Mapping[int, Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Return the mean of each personal parameter over the clients that train it."""
    groups = context.groups
    trained = context.federation.manifest.counts["train"] > 0
    sizes: dict[str, int] = {}
    holders: dict[str, NDArray[np.bool_]] = {}
    for g, group in enumerate(groups.members):
        for name, size in group.model.sizes("personal").items():
            if sizes.setdefault(name, size) == size:  # else it can never be shared
                holders.setdefault(name, np.zeros(len(trained), dtype=np.bool_))
                holders[name] |= groups.clients([g]) & trained
    length = sum(sizes.values())
    clients, vectors = [], []
    for client, own in personal.items():
        if trained[client]:
            parts = [
                own[name].double()
                if name in own and own[name].numel() == size
                else torch.zeros(size, dtype=torch.float64)
                for name, size in sizes.items()
            ]
            clients.append(client)
            vectors.append(torch.cat([*parts, torch.zeros(0).double()]).numpy())
    total = torch.from_numpy(sum_exactly(context, clients, vectors, length, 0))
    sums = dict(zip(sizes, torch.split(total, list(sizes.values())), strict=True))
    return {n: sums[n] / max(1, int(holders[n].sum())) for n in sizes}


def _restart(context: TrainingContext, server: ServerState, start: Values) -> None:
    """Set the server and the hosted clients to where another phase ended."""
    groups, space = context.groups, context.groups.space
    known = start.averaged | start.shared
    if context.comm.rank == SERVER:
        for name, place in space.places.items():
            server.rows[0][place] = known[name].reshape(-1).double()
        server.buffers.copy_(start.mean_buffers)
    for client in context.table.hosted:
        group = groups.of(client)
        own = start.shared | start.personal[client]
        u = {name: known[name] for name in group.model.shared_names}
        v = {name: own[name] for name in group.model.personal_names}
        initial = {
            "shared": _joined(group.initial["shared"], u),
            "personal": _joined(group.initial["personal"], v),
        }
        moved = replace(group, initial=group.initial | initial)
        state = context.table.checkout(client)
        state |= context.new_client(moved) | start.buffers[client]
        context.table.commit(client, state)


def _joined(like: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
    """Return tensors one after the other, in the dtype of a vector."""
    flat = [part.reshape(-1).to(like.dtype) for part in parts.values()]
    return torch.cat([*flat, like.new_zeros(0)])
