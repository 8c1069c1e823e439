"""Evaluate clients: each on its own test split, and pooled over clients."""

from collections.abc import Iterator, Sequence
from functools import partial
from math import ceil, isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.algorithms import Algorithm
from fedapm_mpi.comm.base import gather_client_rows
from fedapm_mpi.config.evaluation_options import FineTune, Variant
from fedapm_mpi.config.schema import Config
from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.device import seed_dropout
from fedapm_mpi.engine.inference import (
    ClientEvaluation,
    evaluate,
    measure,
    metric_targets,
)
from fedapm_mpi.errors import FedAPMError, TrainingError
from fedapm_mpi.optim.local import Block, minimize
from fedapm_mpi.placements import client_ranks
from fedapm_mpi.plugins.errors import to_fedapm_error
from fedapm_mpi.tasks import LOSS, Task
from fedapm_mpi.training.client import OpenClient, open_client
from fedapm_mpi.training.context import TrainingContext
from fedapm_mpi.training.stacks import Place
from fedapm_mpi.utils.rng import Purpose, torch_seed
from fedapm_mpi.utils.statistics import summarize, worst_decile_size

BLOCKS: dict[str, Block] = {"personal": "personal", "shared": "shared", "all": "both"}
"""What `FineTune.block` trains."""


class EvaluationResult(NamedTuple):
    """An evaluation of clients."""

    record: dict[str, Any]
    """What the round's record says of it: mean, standard deviation and worst decile
    over clients, the number of clients in each, and figures pooled over all evaluated
    samples. The metrics of further variants are under their names."""

    clients: list[tuple[Any, ...]]
    """Rows of ``clients.csv``, under `client_columns`."""


def client_columns(task: Task, variants: Sequence[Variant]) -> list[str]:
    """Return the header of ``clients.csv``.

    `evaluated_samples` are those of the part that `evaluation.split` names. Columns of
    further variants begin with their names.
    """
    start = ["client", "name", "train_samples", "test_samples"]
    metrics, counts = task.metric_set().names, task.client_counts
    more = [f"{v.name}_{key}" for v in variants[1:] for key in (*metrics, *counts)]
    return [*start, *metrics, "evaluated_samples", *counts, *more]


def evaluate_clients(
    context: TrainingContext,
    message: Tensor,
    t: int,
    chosen: NDArray[np.int64] | None = None,
) -> EvaluationResult | None:
    """Evaluate clients after `t` rounds; a collective call.

    `message` is the broadcast that holds the shared block u; `chosen` are the clients,
    ascending, by default those that the configuration says. Returns the result on the
    server; `None` elsewhere, and where no client is to be evaluated.
    """
    if chosen is None:
        chosen = context.federation.evaluated(t)
    clients: list[int] = []
    figures: list[list[float]] = []
    scored: list[NDArray[np.float32]] = []
    error: FedAPMError | None = None
    try:
        for client, (row, pooled) in _evaluate_own(context, chosen, message, t):
            clients.append(client)
            figures.append(row)
            if context.config.evaluation.pooled:
                scored.append(pooled)
    except Exception as caught:  # a user's model or task may raise anything
        error = to_fedapm_error(caught)
    context.comm.raise_collectively(error)
    width = _width(context.task) * len(context.config.evaluation.variants)
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


def _width(task: Task) -> int:
    """Return the numbers of a client and variant: samples, metrics, counts."""
    return 1 + len(task.metric_set().names) + len(task.client_counts)


def client_rows(
    context: TrainingContext, clients: NDArray[np.int64], table: NDArray[np.float64]
) -> list[tuple[Any, ...]]:
    """Return the rows of ``clients.csv`` from the gathered table, in client order."""
    trained = context.federation.manifest.counts["train"].tolist()
    tested = context.federation.manifest.counts["test"].tolist()
    names = context.federation.manifest.client_names
    metrics, width = len(context.task.metric_set().names), _width(context.task)
    rows = []
    for i, values in zip(clients.tolist(), table.tolist(), strict=True):
        row = [i, names[i], trained[i], tested[i]]
        for start in range(0, len(values), width):
            samples, *found = values[start : start + width]
            whole = map(int, (samples, *found[metrics:]))
            cells = [*found[:metrics], *whole]
            if start:  # the samples are the same
                del cells[metrics]
            row += cells
        rows.append(tuple(row))
    return rows


_Evaluated = tuple[list[float], NDArray[np.float32]]
"""A client's figures, those of each variant in turn, and for the pool the predictions
of each variant, and the targets."""


def _evaluate_own(
    context: TrainingContext, chosen: NDArray[np.int64], message: Tensor, t: int
) -> Iterator[tuple[int, _Evaluated]]:
    """Yield the clients that this rank evaluates; those that train are in stacks."""
    variants = context.config.evaluation.variants
    drawn = context.draw(chosen, context.federation.evaluation_costs)
    if not any(_trains(context.algorithm, variant) for variant in variants):
        for client in drawn:
            yield client, _evaluate_client(context, message, t, client, None)
        return
    stacks, own = context.stacks, partial(_evaluate_client, context, message, t)
    share = ceil(len(chosen) / len(client_ranks(context.comm.size)))
    for members in stacks.divide(drawn, context.groups.of_client, share):
        found = stacks.run(members, own)
        for client, one in zip(members.clients, found, strict=True):
            if isinstance(one, BaseException):
                raise one
            yield client, one


def _trains(algorithm: Algorithm, variant: Variant) -> bool:
    """Return whether a client's model may be trained before it is evaluated."""
    return algorithm.has_personal_model or variant.fine_tuned


def _evaluate_client(
    context: TrainingContext,
    message: Tensor,
    t: int,
    client: int,
    place: Place | None,
) -> _Evaluated:
    samples = context.samples(client, context.config.evaluation.split)
    figures: list[float] = []
    columns: list[NDArray[np.float32]] = []
    given = metric_targets(context.task, samples.targets)
    for variant in context.config.evaluation.variants:
        found, predictions = _evaluate_variant(
            context, client, message, t, variant, samples, place
        )
        counts = context.task.counts(predictions, given)
        row = [found.samples, found.loss, *found.metrics.values(), *counts]
        figures += [float(value) for value in row]
        columns.append(predictions)
    targets = given.astype(np.float32)
    shape = len(targets), context.federation.targets.columns
    return figures, np.hstack([*columns, targets.reshape(shape)])


def _evaluate_variant(
    context: TrainingContext,
    client: int,
    message: Tensor,
    t: int,
    variant: Variant,
    samples: Samples,
    place: Place | None,
) -> tuple[ClientEvaluation, NDArray[np.float32]]:
    opened = open_client(
        context,
        client,
        context.table.peek(client),
        message,
        purpose="personalise",
        round_index=t,
        shared_block=variant.shared_block,
        place=place,
    )
    load_evaluated_model(
        context.config,
        context.algorithm,
        opened,
        float(context.federation.weights[client]),
        variant,
    )
    model = opened.model
    there = samples.to(model.device)
    if model.draws:
        address = torch_seed(context.config.seed, Purpose.DROPOUT_EVALUATE, t, client)
        seed_dropout(model.device, address)
    found, predictions = evaluate(model, there, context.federation.targets.size)
    if found.samples and not isfinite(found.loss):
        what = "evaluation.fine_tune.lr" if variant.fine_tuned else "the learning rate"
        msg = (
            f"the {context.config.evaluation.split} loss of client {client} is "
            f"{found.loss} after round {t}; lower {what} or the penalty, or "
            "look at the client's data"
        )
        raise TrainingError(msg)
    return found, predictions


def load_evaluated_model(
    config: Config,
    algorithm: Algorithm,
    opened: OpenClient,
    weight: float,
    variant: Variant,
) -> None:
    """Set an open client's model to the parameters that an evaluation looks at.

    They are the shared block and the client's personal one, or what the algorithm
    makes for the client. A variant that is fine-tuned trains them further. `weight` is
    the client's alpha_i.
    """
    if algorithm.has_personal_model:
        algorithm.load_personal_model(
            opened.broadcast, opened.state, opened.objective, weight
        )
    else:
        at_server, state = variant.shared_block == "server", opened.state
        # An objective reads the client's training samples, which only training needs.
        live = opened.objective if variant.fine_tuned else opened.model
        live.shared.copy_(opened.broadcast[0] if at_server else state["shared"])
        live.personal.copy_(state["personal"])
    if variant.fine_tuned:
        assert config.evaluation.fine_tune is not None
        _fine_tune(config.evaluation.fine_tune, algorithm, opened)
    if _trains(algorithm, variant):
        opened.objective.load_model()


def _fine_tune(options: FineTune, algorithm: Algorithm, opened: OpenClient) -> None:
    """Train the model of an open client from where it is."""
    size = options.batch_size
    if size is None:
        size = algorithm.mini_batch_size()
    assert size is not None  # of the configuration's checks
    try:
        minimize(
            opened.objective,
            BLOCKS[options.block],
            options.work,
            batch_size=size,
            lr=options.lr,
            weight_decay=options.weight_decay,
        )
    except TrainingError as error:
        msg = f"evaluation.fine_tune: {error}"
        raise TrainingError(msg) from error


def _gather_pool(
    context: TrainingContext, scored: list[NDArray[np.float32]]
) -> NDArray[np.float32] | None:
    """Return all samples' predictions and targets rank by rank.

    Shape (n, variants * predictions + targets), where a class is one target.
    """
    if not context.config.evaluation.pooled:
        return None
    targets = context.federation.targets
    size = context.task.metric_input_size(targets.size)
    width = size * len(context.config.evaluation.variants) + targets.columns
    mine = np.concatenate([np.zeros((0, width), np.float32), *scored])
    counts = context.comm.allgather_int(len(mine))
    return context.comm.gatherv(np.ascontiguousarray(mine), counts)


def _summarize(
    context: TrainingContext,
    chosen: NDArray[np.int64],
    table: NDArray[np.float64],
    pool: NDArray[np.float32] | None,
) -> EvaluationResult:
    clients = int(np.count_nonzero(table[:, 0]))
    record: dict[str, Any] = {
        "clients": clients,
        "worst_decile_clients": worst_decile_size(clients),
        "num_clients": context.federation.num_clients,
        "evaluated_split": context.config.evaluation.split,
    }
    variants = context.config.evaluation.variants
    width = _width(context.task)
    for k, variant in enumerate(variants):
        own = table[:, k * width : (k + 1) * width]
        found = _metrics(context.task, own, context.config.evaluation.quantiles)
        if pool is not None and len(pool):
            columns = context.federation.targets.columns
            size = (pool.shape[1] - columns) // len(variants)
            predicted = pool[:, k * size : (k + 1) * size]
            given = pool[:, pool.shape[1] - columns :]
            pooled = _pooled(context.task, own, predicted, given)
            if variant.name:  # a record has no tables within tables
                found |= {f"pooled_{key}": value for key, value in pooled.items()}
            else:
                counts = {"samples": len(pool), "clients": clients}
                found["pooled"] = pooled | counts
        record |= {variant.name: found} if variant.name else found
    return EvaluationResult(record, client_rows(context, chosen, table))


def _metrics(
    task: Task, table: NDArray[np.float64], quantiles: Sequence[float]
) -> dict[str, Any]:
    """Return a variant's metrics over clients, from its part of the gathered table."""
    record: dict[str, Any] = {}
    metrics = task.metric_set()
    for k, (metric, higher) in enumerate(metrics.higher_is_better.items(), start=1):
        figures = summarize(table[:, k], lower_is_worse=higher)
        known = int(np.count_nonzero(~np.isnan(table[:, k])))
        record[metric] = figures.mean
        # One client has no spread; 0 would say that all clients are alike.
        record[f"{metric}_std"] = figures.std if known > 1 else None
        record[f"{metric}_worst_decile"] = figures.worst_decile
        for q in quantiles:
            # Of no client it is undefined, as the mean is.
            values = table[~np.isnan(table[:, k]), k]
            found = float(np.quantile(values, q)) if known else float("nan")
            record[f"{metric}_q{100 * q:g}"] = found
        if metric in metrics.partial:
            record[f"{metric}_clients"] = known
            record[f"{metric}_worst_decile_clients"] = worst_decile_size(known)
    return record | dict(
        task.record_statistics(table[:, 0], table[:, 1 + len(metrics.names) :])
    )


def _pooled(
    task: Task,
    table: NDArray[np.float64],
    predictions: NDArray[np.float32],
    targets: NDArray[np.float32],
) -> dict[str, float]:
    """Return a variant's metrics over all samples, and their mean loss."""
    samples = table[:, 0]
    of_class = task.target_kind == "class"
    found = measure(
        task, predictions, targets[:, 0].astype(np.int64) if of_class else targets
    )
    return {LOSS: float(np.nansum(table[:, 1] * samples) / samples.sum()), **found}
