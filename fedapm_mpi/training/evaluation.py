"""Evaluate clients: each on its own test split, and pooled over clients."""

from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.algorithms import Algorithm
from fedapm_mpi.comm.base import gather_client_rows
from fedapm_mpi.config.schema import Config
from fedapm_mpi.engine.device import seed_dropout
from fedapm_mpi.engine.inference import evaluate, measure
from fedapm_mpi.errors import FedAPMError, TrainingError
from fedapm_mpi.plugins.errors import to_fedapm_error
from fedapm_mpi.tasks import LOSS, Task
from fedapm_mpi.training.client import OpenClient, open_client
from fedapm_mpi.training.context import TrainingContext
from fedapm_mpi.utils.rng import Purpose, torch_seed
from fedapm_mpi.utils.statistics import summarize, worst_decile_size


class EvaluationResult(NamedTuple):
    """An evaluation of clients."""

    record: dict[str, Any]
    """What the round's record says of it: mean, standard deviation and worst decile
    over clients, the number of clients in each, and figures pooled over all evaluated
    samples."""

    clients: list[tuple[Any, ...]]
    """Rows of ``clients.csv``, under `client_columns`."""


def client_columns(task: Task) -> list[str]:
    """Return the header of ``clients.csv``.

    `evaluated_samples` are those of the part that `evaluation.split` names.
    """
    start = ["client", "name", "train_samples", "test_samples"]
    metrics = task.metric_set().names
    return [*start, *metrics, "evaluated_samples", *task.client_counts]


def evaluate_clients(
    context: TrainingContext, message: Tensor, t: int
) -> EvaluationResult | None:
    """Evaluate clients after `t` rounds; a collective call.

    `message` is the broadcast that holds the shared block u. Returns the result on the
    server; `None` elsewhere, and where no client is to be evaluated.
    """
    chosen = context.federation.evaluated(t)
    clients: list[int] = []
    figures: list[list[float]] = []
    scored: list[NDArray[np.float32]] = []
    error: FedAPMError | None = None
    try:
        for client in context.draw(chosen, context.federation.evaluation_costs):
            row, pooled = _evaluate_client(context, client, message, t)
            clients.append(client)
            figures.append(row)
            if context.config.evaluation.pooled:
                scored.append(pooled)
    except Exception as caught:  # a user's model or task may raise anything
        error = to_fedapm_error(caught)
    context.comm.raise_collectively(error)
    # Of each client: samples, metrics, counts.
    width = 1 + len(context.task.metric_set().names) + len(context.task.client_counts)
    gathered = gather_client_rows(context.comm, clients, figures, width=width)
    pool = _gather_pool(context, scored)
    if gathered is None or not len(chosen):
        return None
    owners, table = gathered
    if pool is not None:
        tested = context.federation.manifest.counts[context.config.evaluation.split]
        owner = np.repeat(owners, tested[owners])
        pool = pool[np.argsort(owner, kind="stable")]
    return _summarize(context, chosen, table[np.argsort(owners)], pool)


def client_rows(
    context: TrainingContext, clients: NDArray[np.int64], table: NDArray[np.float64]
) -> list[tuple[Any, ...]]:
    """Return the rows of ``clients.csv`` from the gathered table, in client order."""
    trained = context.federation.manifest.counts["train"].tolist()
    tested = context.federation.manifest.counts["test"].tolist()
    names = context.federation.manifest.client_names
    metrics = len(context.task.metric_set().names)
    rows = []
    for i, (samples, *values) in zip(clients.tolist(), table.tolist(), strict=True):
        whole = map(int, (samples, *values[metrics:]))
        row = (i, names[i], trained[i], tested[i], *values[:metrics], *whole)
        rows.append(row)
    return rows


def _evaluate_client(
    context: TrainingContext, client: int, message: Tensor, t: int
) -> tuple[list[float], NDArray[np.float32]]:
    opened = open_client(
        context,
        client,
        context.table.peek(client),
        message,
        purpose="personalise",
        round_index=t,
    )
    load_evaluated_model(
        context.config,
        context.algorithm,
        opened,
        float(context.federation.weights[client]),
    )
    model = opened.model
    samples = context.samples(client, context.config.evaluation.split)
    there = samples.to(model.device)
    if model.draws:
        address = torch_seed(context.config.seed, Purpose.DROPOUT_EVALUATE, t, client)
        seed_dropout(model.device, address)
    found, predictions = evaluate(model, there, context.federation.num_classes)
    if found.samples and not isfinite(found.loss):
        msg = (
            f"the {context.config.evaluation.split} loss of client {client} is "
            f"{found.loss} after round {t}; lower the learning rate or the penalty, or "
            "look at the client's data"
        )
        raise TrainingError(msg)
    labels = samples.labels.numpy()
    counts = context.task.counts(predictions, labels)
    scored = np.hstack([predictions, labels.astype(np.float32)[:, None]])
    row = [found.samples, found.loss, *found.metrics.values(), *counts]
    return [float(value) for value in row], scored


def load_evaluated_model(
    config: Config, algorithm: Algorithm, opened: OpenClient, weight: float
) -> None:
    """Set an open client's model to the parameters that an evaluation looks at.

    They are the shared block and the client's personal one, or what the algorithm
    makes for the client. `weight` is the client's alpha_i.
    """
    if algorithm.has_personal_model:
        algorithm.load_personal_model(
            opened.broadcast, opened.state, opened.objective, weight
        )
        return
    at_server, state = config.evaluation.shared_block == "server", opened.state
    opened.model.shared.copy_(opened.broadcast[0] if at_server else state["shared"])
    opened.model.personal.copy_(state["personal"])


def _gather_pool(
    context: TrainingContext, scored: list[NDArray[np.float32]]
) -> NDArray[np.float32] | None:
    """Return all samples' predictions and targets rank by rank, (n, size + 1)."""
    if not context.config.evaluation.pooled:
        return None
    width = context.task.prediction_size(context.federation.num_classes) + 1
    mine = np.concatenate([np.zeros((0, width), np.float32), *scored])
    counts = context.comm.allgather_int(len(mine))
    return context.comm.gatherv(np.ascontiguousarray(mine), counts)


def _summarize(
    context: TrainingContext,
    chosen: NDArray[np.int64],
    table: NDArray[np.float64],
    pool: NDArray[np.float32] | None,
) -> EvaluationResult:
    tested = table[:, 0]
    clients = int(np.count_nonzero(tested))
    record: dict[str, Any] = {
        "clients": clients,
        "worst_decile_clients": worst_decile_size(clients),
        "num_clients": context.federation.num_clients,
        "evaluated_split": context.config.evaluation.split,
    }
    task, metrics = context.task, context.task.metric_set()
    for k, (metric, higher) in enumerate(metrics.higher_is_better.items(), start=1):
        figures = summarize(table[:, k], lower_is_worse=higher)
        known = int(np.count_nonzero(~np.isnan(table[:, k])))
        record[metric] = figures.mean
        # One client has no spread; 0 would say that all clients are alike.
        record[f"{metric}_std"] = figures.std if known > 1 else None
        record[f"{metric}_worst_decile"] = figures.worst_decile
        if metric in metrics.partial:
            record[f"{metric}_clients"] = known
            record[f"{metric}_worst_decile_clients"] = worst_decile_size(known)
    record |= task.record_statistics(tested, table[:, 1 + len(metrics.names) :])
    if pool is not None and len(pool):
        pooled = measure(task, pool[:, :-1], pool[:, -1].astype(task.target_dtype))
        loss = float(np.nansum(table[:, 1] * tested) / tested.sum())
        counts = {"samples": len(pool), "clients": clients}
        record["pooled"] = {LOSS: loss, **pooled, **counts}
    return EvaluationResult(record, client_rows(context, chosen, table))
