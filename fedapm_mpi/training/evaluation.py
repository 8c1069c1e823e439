"""Evaluate clients: each on its own test part, and pooled over clients."""

from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.algorithms import ClientState
from fedapm_mpi.comm.gather import gather_client_rows
from fedapm_mpi.engine.device import seed_dropout
from fedapm_mpi.engine.inference import evaluate
from fedapm_mpi.engine.local_objective import LocalObjective
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.errors import FedAPMError, TrainingError
from fedapm_mpi.tasks.classification import client_metrics, summarize, worst_decile_size
from fedapm_mpi.tracking.records import METRICS
from fedapm_mpi.training.context import TrainingContext
from fedapm_mpi.utils.rng import torch_seed

COLUMNS = ("samples", *METRICS, "predicted_classes", "label_classes")
"""What is gathered of each client."""


class ClientRow(NamedTuple):
    """One row of ``clients.csv``."""

    client: int
    name: str
    train_samples: int
    test_samples: int
    loss: float
    accuracy: float
    f1: float
    auroc: float
    auroc_absent_zero: float
    evaluated_samples: int
    """Samples of the part that was evaluated, which `evaluation.split` names."""

    predicted_classes: int
    """Different classes that the client's model predicts for these samples."""

    label_classes: int
    """Different classes among their labels."""


class EvaluationResult(NamedTuple):
    """An evaluation of clients."""

    record: dict[str, Any]
    """What the round's record says of it: mean, standard deviation and worst decile
    over clients, the number of clients in each, and figures pooled over all evaluated
    samples."""

    clients: list[ClientRow]


def evaluate_clients(
    session: TrainingContext, message: Tensor, t: int
) -> EvaluationResult | None:
    """Evaluate clients after `t` rounds; a collective call.

    `message` is the broadcast that holds the shared block u. Returns the result on the
    server; `None` elsewhere, and where nobody is to be evaluated.
    """
    chosen = session.evaluated(t)
    clients: list[int] = []
    figures: list[list[float]] = []
    scored: list[NDArray[np.float32]] = []
    error: FedAPMError | None = None
    try:
        for client in session.draw(chosen, session.evaluation_costs):
            row, pooled = _evaluate_client(session, client, message, t)
            clients.append(client)
            figures.append(row)
            if session.config.evaluation.pooled:
                scored.append(pooled)
    except FedAPMError as caught:
        error = caught
    session.comm.raise_collectively(error)
    width = len(COLUMNS)
    gathered = gather_client_rows(session.comm, clients, figures, width=width)
    pool = _gather_pool(session, scored)
    if gathered is None or not len(chosen):
        return None
    owners, table = gathered
    if pool is not None:
        tested = session.manifest.counts[session.config.evaluation.split]
        owner = np.repeat(owners, tested[owners])
        pool = pool[np.argsort(owner, kind="stable")]
    return _summarize(session, chosen, table[np.argsort(owners)], pool)


def client_rows(
    session: TrainingContext, clients: NDArray[np.int64], table: NDArray[np.float64]
) -> list[ClientRow]:
    """Return the rows of ``clients.csv`` from the gathered table, in client order."""
    trained = session.manifest.counts["train"].tolist()
    tested = session.manifest.counts["test"].tolist()
    names = session.manifest.client_names
    rows = []
    for i, (samples, *values) in zip(clients.tolist(), table.tolist(), strict=True):
        figures, counts = values[: len(METRICS)], values[len(METRICS) :]
        whole = map(int, (samples, *counts))
        rows.append(ClientRow(i, names[i], trained[i], tested[i], *figures, *whole))
    return rows


def _evaluate_client(
    session: TrainingContext, client: int, message: Tensor, t: int
) -> tuple[list[float], NDArray[np.float32]]:
    groups, model = session.groups, session.groups.of(client).model
    viewed = session.table.peek(client)
    state = {name: tensor.to(model.device) for name, tensor in viewed.items()}
    rows, d = session.algorithm.rows, session.size
    broadcast = groups.restrict(client, message[: rows * d].view(rows, d))
    broadcast = broadcast.to(model.device)
    _load_buffers(session, model, state, message)
    personalise = getattr(session.algorithm, "personalise", None)
    if personalise is None:
        at_server = session.config.evaluation.shared_block == "server"
        model.shared.copy_(broadcast[0] if at_server else state["shared"])
        model.personal.copy_(state["personal"])
    else:
        problem = LocalObjective(
            model,
            session.samples(client, "train").to(model.device),
            seed=session.config.seed,
            round_index=t,
            client=client,
            purpose="personalise",
            bf16=session.config.precision == "bf16",
        )
        personalise(broadcast, state, problem, float(session.weights[client]))
    samples = session.samples(client, session.config.evaluation.split)
    there = samples.to(model.device)
    if model.draws:
        address = torch_seed(session.config.seed, "dropout evaluate", t, client)
        seed_dropout(model.device, address)
    found, probabilities = evaluate(model, there, session.num_classes)
    if found.samples and not isfinite(found.loss):
        msg = (
            f"the {session.config.evaluation.split} loss of client {client} is "
            f"{found.loss} after round {t}; lower the learning rate or the penalty, or "
            "look at the client's data"
        )
        raise TrainingError(msg)
    labels = samples.labels.numpy()
    predicted = probabilities.argmax(axis=1)
    classes = [float(len(np.unique(values))) for values in (predicted, labels)]
    scored = np.hstack([probabilities, labels.astype(np.float32)[:, None]])
    return [*map(float, found), *classes], scored


def _load_buffers(
    session: TrainingContext,
    model: PartitionedModel,
    state: ClientState,
    message: Tensor,
) -> None:
    """Set the module's buffers to those of the client, or to the averaged ones."""
    if "buffers" not in state and "counters" not in state:
        return
    buffers = state.get("buffers", torch.zeros(0))
    if session.averages_buffers and session.config.evaluation.shared_block == "server":
        buffers = message[session.algorithm.rows * session.size :]
    model.write_buffers(buffers, state.get("counters", torch.zeros(0)))


def _gather_pool(
    session: TrainingContext, scored: list[NDArray[np.float32]]
) -> NDArray[np.float32] | None:
    """Return all test samples' probabilities and labels rank by rank, (n, K + 1)."""
    if not session.config.evaluation.pooled:
        return None
    width = session.num_classes + 1
    mine = np.concatenate([np.zeros((0, width), np.float32), *scored])
    counts = session.comm.allgather_int(len(mine))
    return session.comm.gatherv(np.ascontiguousarray(mine), counts)


def _summarize(
    session: TrainingContext,
    chosen: NDArray[np.int64],
    table: NDArray[np.float64],
    pool: NDArray[np.float32] | None,
) -> EvaluationResult:
    tested = table[:, 0]
    clients = int(np.count_nonzero(tested))
    record: dict[str, Any] = {
        "clients": clients,
        "worst_decile_clients": worst_decile_size(clients),
        "num_clients": session.num_clients,
        "evaluated_split": session.config.evaluation.split,
    }
    for k, metric in enumerate(METRICS, start=1):
        figures = summarize(table[:, k], lower_is_worse=metric != "loss")
        known = int(np.count_nonzero(~np.isnan(table[:, k])))
        record[metric] = figures.mean
        # One client has no spread; 0 would say that all clients are alike.
        record[f"{metric}_std"] = figures.std if known > 1 else None
        record[f"{metric}_worst_decile"] = figures.worst_decile
        if metric == "auroc":  # the only one that tested clients may not have
            record["auroc_clients"] = known
            record["auroc_worst_decile_clients"] = worst_decile_size(known)
    predicted, present = table[:, -2], table[:, -1]
    record["clients_with_classes"] = int((present > 1).sum())
    constant = (predicted == 1) & (present > 1)
    record["one_class_clients"] = int(constant.sum())
    record["one_class_most_samples"] = int(tested[constant].max(initial=0))
    if pool is not None and len(pool):
        labels = pool[:, -1].astype(np.int64)
        found = client_metrics(pool[:, :-1], labels)._asdict()
        loss = float(np.nansum(table[:, 1] * tested) / tested.sum())
        counts = {"samples": len(pool), "clients": clients}
        record["pooled"] = {"loss": loss, **found, **counts}
    return EvaluationResult(record, client_rows(session, chosen, table))
