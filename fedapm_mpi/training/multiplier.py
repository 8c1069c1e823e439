"""Measure the multiplier test of every shared layer; a pass over all clients' samples.

Every rank takes its own clients at the server's shared block and their own personal
blocks. Three vectors of the length of the shared block are summed over all clients by
the exact sum, so that the test is the same bits on any number of ranks.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.aggregators.base import AggregationContext
from fedapm_mpi.aggregators.exact import Exact
from fedapm_mpi.comm import SERVER
from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.fisher import gradient_moments
from fedapm_mpi.errors import FedAPMError, TrainingError
from fedapm_mpi.federation.client_groups import ClientGroups
from fedapm_mpi.optim.layer_test import DAMPING, LayerTest
from fedapm_mpi.optim.multiplier_test import (
    GradientSums,
    Holders,
    multiplier_test,
    terms,
)
from fedapm_mpi.plugins.errors import to_fedapm_error
from fedapm_mpi.tracking.run_directory import Record
from fedapm_mpi.training.client import OpenClient, open_client
from fedapm_mpi.training.context import TrainingContext


def measure_layers(
    context: TrainingContext,
    message: Tensor,
    t: int,
    *,
    counted: NDArray[np.bool_] | None = None,
    damping: float = DAMPING,
) -> dict[str, LayerTest]:
    """Return the test of each shared layer after `t` rounds; a collective call.

    Layers are the shared parameters by name, in the server's order, without those that
    fewer than two clients with samples hold. The result is the same on every rank.

    Parameters
    ----------
    context
        The parts of the run.
    message : (down_length,)
        The broadcast that holds the shared block u.
    t
        Rounds before.
    counted : (m,)
        Clients that count, the same on every rank; all unless given.
    damping
        See `multiplier_test`.

    Raises
    ------
    FedAPMError
        On every rank, if a client's gradients cannot be measured, or are not finite.
    """
    size = context.payload.shared_length
    sampled = context.federation.manifest.counts["train"] > 0
    counted = sampled if counted is None else counted & sampled
    clients: list[int] = []
    found: list[NDArray[np.float64]] = []
    error: FedAPMError | None = None
    try:
        for client in context.table.hosted:
            if not counted[client]:
                continue
            moments = _client_moments(context, client, message, t)
            clients.append(client)
            found.append(moments.numpy().reshape(-1))
    except Exception as caught:  # a user's model or task may raise anything
        error = to_fedapm_error(caught)
    context.comm.raise_collectively(error)
    total = sum_exactly(context, clients, found, 3 * size, t)
    rows = torch.from_numpy(total).view(3, size)
    sums = GradientSums(rows[0], rows[1], rows[2])
    places = context.groups.space.places
    counts = context.federation.manifest.counts["train"]
    holders = holders_of(context.groups, counts, counted)
    return multiplier_test(sums, places, holders, damping)


def multiplier_record(
    context: TrainingContext, seen: NDArray[np.bool_], message: Tensor, t: int
) -> Record:
    """Return the test's part of a round's record; a collective call.

    Clients that have never taken part have a personal block that fits nothing; they
    are left out. Before two clients have taken part there is no test.

    Parameters
    ----------
    context
        The parts of the run.
    seen : (m,)
        Which clients have taken part; the server's counts.
    message : (down_length,)
        What the server sends.
    t
        Rounds before.
    """
    counted = context.comm.bcast_object(seen if context.comm.rank == SERVER else None)
    if np.count_nonzero(counted) < 2:
        return {}
    tests = measure_layers(context, message, t, counted=counted)
    return {"multiplier": {name: test.lm for name, test in tests.items()}}


def sum_exactly(
    context: TrainingContext,
    clients: list[int],
    vectors: list[NDArray[np.float64]],
    length: int,
    t: int,
) -> NDArray[np.float64]:
    """Return the exact sum of all ranks' vectors on every rank; a collective call.

    The bits depend on the multiset of vectors alone, not on which rank brings one.

    Parameters
    ----------
    context
        The parts of the run.
    clients
        Whose vectors this rank brings.
    vectors : each (length,)
        These, finite.
    length
        Numbers of a vector.
    t
        Rounds before.
    """
    largest = max((float(np.abs(one).max(initial=0.0)) for one in vectors), default=0.0)
    largest = context.comm.allreduce_max([largest])[0]
    about = AggregationContext(
        round_index=t,
        participants=np.arange(context.federation.num_clients),
        clients=clients,
        seed=context.config.seed,
        length=length,
        largest=largest,
    )
    found = Exact().sum(context.comm, vectors, about)
    total = np.zeros(length)
    if context.comm.rank == SERVER:
        total[:] = found
    context.comm.broadcast(total)
    return total


def _client_moments(
    context: TrainingContext, client: int, message: Tensor, t: int
) -> Tensor:
    """Return a client's terms of the three sums in the server's layout, (3, d).

    They are float64, on the CPU.
    """
    state = context.table.peek(client)
    opened = open_client(
        context, client, state, message, purpose="personalise", round_index=t
    )
    rows = moments_of(opened, context.samples(client, "train"))
    if not bool(rows.isfinite().all()):
        msg = (
            f"the gradients of client {client} are not finite after round {t}; lower "
            "the learning rate or the penalty, or look at the client's data"
        )
        raise TrainingError(msg)
    return context.groups.extend(client, rows)


def moments_of(opened: OpenClient, samples: Samples) -> Tensor:
    """Return the terms of a client in the three sums, in its model's layout.

    Parameters
    ----------
    opened
        The client; its model is set to the server's shared block and its own personal
        one.
    samples
        Its training samples.

    Returns
    -------
    (3, d_shared) Tensor, float64, on the CPU
        Of `GradientSums`, in this order.
    """
    model = opened.model
    model.shared.copy_(opened.broadcast[0])
    model.personal.copy_(opened.state["personal"])
    moments = gradient_moments(model, samples.to(model.device), "shared")
    return terms(moments.mean, moments.mean_square, moments.samples).cpu()


def holders_of(
    groups: ClientGroups, samples: NDArray[np.int64], counted: NDArray[np.bool_]
) -> Mapping[str, Holders]:
    """Return who holds each shared parameter, of the clients that count.

    Parameters
    ----------
    groups
        The clients' models.
    samples : (m,)
        Training samples of each client.
    counted : (m,)
        Clients that count.
    """
    found = {}
    for name in groups.space.places:
        held = groups.clients(groups.space.holders(name)) & counted
        found[name] = Holders(int(held.sum()), int(samples[held].sum()))
    return found
