"""A rank's share of a round: the local work of the participants that it hosts."""

from collections.abc import Iterable
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.engine.local_objective import LocalObjective
from fedapm_mpi.errors import FedAPMError, TrainingError
from fedapm_mpi.optim import admm
from fedapm_mpi.plugins.faults import classify
from fedapm_mpi.training import plugin_checks as ownchecks
from fedapm_mpi.training.context import TrainingContext


class LocalUpdates(NamedTuple):
    """What a rank's local work of a round brings."""

    clients: list[int]
    """Those whom this rank trained."""

    increments: list[NDArray[np.float64]]
    statistics: list[list[float]]
    """Of each participant: loss sum, loss count, squared drift, seconds."""

    largest: float
    error: FedAPMError | None


def train_clients(
    session: TrainingContext, t: int, clients: Iterable[int], message: Tensor
) -> LocalUpdates:
    """Train those of a round's participants that are this rank's."""
    result = LocalUpdates([], [], [], 0.0, None)
    largest = 0.0
    for client in clients:
        begin = perf_counter()
        try:
            increment, *figures = _train(session, t, client, message)
            size = float(np.abs(increment).max(initial=0.0))
            if not np.isfinite(size):
                msg = (
                    f"the update of client {client} in round {t + 1} is not finite; "
                    "lower the learning rate or the penalty"
                )
                raise TrainingError(msg)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # all ranks are told, and leave together
            told = classify(error)
            if told is not error:
                told.args = (f"client {client}, round {t + 1}: {told}",)
            return result._replace(error=told, largest=0.0)
        largest = max(largest, size)
        result.clients.append(client)
        result.increments.append(increment)
        result.statistics.append([*figures, perf_counter() - begin])
    return result._replace(largest=largest)


def _train(
    session: TrainingContext, t: int, client: int, message: Tensor
) -> tuple[NDArray[np.float64], float, int, float]:
    """Do one participant's work: return its increment, loss sum and count, drift."""
    groups, model = session.groups, session.groups.of(client).model
    touched = session.table.checkout(client)
    state = {name: tensor.to(model.device) for name, tensor in touched.items()}
    rows, d = session.algorithm.rows, session.algorithm.rows * session.size
    broadcast = groups.restrict(client, message[:d].view(rows, session.size))
    broadcast = broadcast.to(model.device)
    problem = LocalObjective(
        model,
        session.samples(client, "train").to(model.device),
        seed=session.config.seed,
        round_index=t,
        client=client,
        bf16=session.config.precision == "bf16",
    )
    if "buffers" in state or "counters" in state:
        if session.averages_buffers:
            state["buffers"].copy_(message[d:])
        model.write_buffers(
            state.get("buffers", torch.zeros(0)), state.get("counters", torch.zeros(0))
        )
    follow_dual = session.config.diagnostics.dual_sum
    dual_before = state["dual"].clone().double() if follow_dual else None
    increment = ownchecks.check_update(
        session.config.algorithm,
        session.algorithm.client_step(
            broadcast, state, problem, float(session.weights[client])
        ),
        *broadcast.shape,
    )
    parts = [groups.extend(client, increment.cpu()).reshape(-1)]
    if "buffers" in state or "counters" in state:
        floats, counters = model.read_buffers()
        if "buffers" in state:
            state["buffers"].copy_(floats)
        if "counters" in state:
            state["counters"].copy_(counters)
        if session.averages_buffers:
            parts.append(floats.cpu().double() - message[d:].double())
    if dual_before is not None:
        change = state["dual"].double() - dual_before
        parts.append(groups.extend(client, change.cpu()))
    session.table.commit(client, state)
    drift = admm.squared_distance(state["shared"], broadcast[0])
    joined = torch.cat(parts).numpy()
    return joined, problem.loss_sum, problem.loss_count, drift
