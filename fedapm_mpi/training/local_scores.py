"""Scores of layers from one round in which each client trains all of its own model."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.engine.fisher import gradient_moments
from fedapm_mpi.errors import FedAPMError, TrainingError
from fedapm_mpi.plugins.errors import to_fedapm_error
from fedapm_mpi.training.client import open_client
from fedapm_mpi.training.context import TrainingContext
from fedapm_mpi.training.multiplier import sum_exactly
from fedapm_mpi.training.preemption import PreemptionGuard
from fedapm_mpi.training.split_phase import train_phase
from fedapm_mpi.training.split_rules.base import LocalModel, LocalRule


def measure_scores(
    context: TrainingContext, rule: LocalRule, stop: PreemptionGuard
) -> dict[str, float] | None:
    """Return the mean of each score over the clients that have it; a collective call.

    The result is the same bits on every rank, for any number of them.

    Parameters
    ----------
    context
        The parts of a phase of one round in which everything is personal.
    rule
        What scores a client's model.
    stop
        Whether the run is to stop; then the result is `None`.

    Raises
    ------
    FedAPMError
        On every rank, if a score cannot be computed, or is not finite.
    """
    trained = train_phase(context, None, stop)
    if trained.stopped:
        return None
    groups = [group.model.personal_names for group in context.groups.members]
    names = list(dict.fromkeys(one for own in groups for one in rule.scored(own)))
    sampled = context.federation.manifest.counts["train"] > 0
    clients = [i for i in context.table.hosted if sampled[i]]
    vectors: list[NDArray[np.float64]] = []
    error: FedAPMError | None = None
    try:
        for client in clients:
            scores = rule.score(_local_model(context, rule, client, trained.message))
            vectors.append(_vector(scores, names, client))
    except Exception as caught:  # a user's model or task may raise anything
        error = to_fedapm_error(caught)
    context.comm.raise_collectively(error)
    total = sum_exactly(context, clients, vectors, 2 * len(names), 1)
    sums, counts = total[: len(names)], total[len(names) :]
    return {
        name: float(sums[k] / counts[k])
        for k, name in enumerate(names)
        if counts[k] > 0
    }


def _local_model(
    context: TrainingContext, rule: LocalRule, client: int, message: Tensor
) -> LocalModel:
    """Return a client's model before and after the round."""
    opened = open_client(
        context,
        client,
        context.table.peek(client),
        message,
        purpose="personalise",
        round_index=1,
    )
    model, end = opened.model, opened.state["personal"]
    gradient = torch.zeros(0)
    if rule.needs_gradient:
        model.personal.copy_(end)
        samples = context.samples(client, "train").to(model.device)
        gradient = gradient_moments(model, samples, "personal").mean.cpu()
    start = context.groups.of(client).initial["personal"]
    return LocalModel(model.sizes("personal"), start.cpu(), end.cpu(), gradient)


def _vector(
    scores: Mapping[str, float], names: Sequence[str], client: int
) -> NDArray[np.float64]:
    """Return a client's scores, and which it has, in the order of all names."""
    there = [float(name in scores) for name in names]
    found = np.array([*(scores.get(name, 0.0) for name in names), *there])
    if not np.isfinite(found).all():
        msg = (
            f"the model of client {client} is not finite after a round on its own; "
            "lower the learning rate, or look at the client's data"
        )
        raise TrainingError(msg)
    return found
