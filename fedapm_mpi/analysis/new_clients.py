"""What a finished run is worth to clients that had no part in it."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.algorithms import ClientState, algorithms
from fedapm_mpi.algorithms.base import declared_sharing
from fedapm_mpi.analysis.client_model import FinalRun, client_states, final_run
from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.config.schema import Config
from fedapm_mpi.data.manifest import Manifest
from fedapm_mpi.errors import ConfigError, DataError, FedAPMError
from fedapm_mpi.plugins.errors import to_fedapm_error
from fedapm_mpi.tracking.variants import BEFORE_FINE_TUNING
from fedapm_mpi.training.context import (
    TrainingContext,
    open_context,
    read_shared_manifest,
)
from fedapm_mpi.training.evaluation import client_columns, evaluate_clients

STEP_SIZES = (
    "lr_personal", "lr_fine_tune", "lr", "lr_shared", "lr_body", "lr_global",
)  # fmt: skip
"""Options of algorithms that are step sizes, those of a client's own part first."""


class NewClients(NamedTuple):
    """The evaluation of clients that had no part in a run."""

    record: dict[str, Any]
    """As of a round's evaluation, with ``before_fine_tuning`` if models were fitted."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    """A row for each client; see `training.evaluation.client_columns`."""

    metrics: tuple[str, ...]

    @property
    def fitted(self) -> bool:
        """Whether models were fitted to the clients' own training samples."""
        return BEFORE_FINE_TUNING in self.record


def step_size(algorithm: Mapping[str, Any]) -> float | None:
    """Return the step size of a method's local work, of those on a client's own part.

    `None` if it has none by these names.
    """
    found = (algorithm.get(key) for key in STEP_SIZES)
    return next((float(one) for one in found if one), None)


def has_personal(config: Config) -> bool:
    """Return whether a run's method and split keep something personal."""
    sharing = declared_sharing(algorithms.get(config.algorithm["name"]))
    split = config.split
    return sharing == "split" and split is not None and split.personal != []


def evaluation_config(
    config: Config, data: str, part: str, fit: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the configuration that evaluates clients by what a run has learned.

    Nothing is trained by it but, if `fit` says so (see `FineTune`), the model of each
    client on its own training samples.

    Raises
    ------
    ConfigError
        If nothing was shared in the run.
    """
    name = config.algorithm["name"]
    sharing = declared_sharing(algorithms.get(name))
    if sharing == "none":
        msg = f"algorithm {name!r} shares nothing, so new clients get nothing from it"
        raise ConfigError(msg)
    values = config.plain()
    lr = fit["lr"] if fit else 1.0
    return values | {
        "data": data,
        "clients": None,
        # Which evaluates u and v as they are; see `training.evaluation`.
        "algorithm": {"name": "fedsim", "lr": lr, "batch_size": 16},
        "split": values["split"] if sharing == "split" else {"personal": []},
        "rounds": 1,
        "participation": {"name": "full"},
        "schedule": None,
        "tolerance": None,
        "stacked": "off",
        "update_transforms": [],
        "initial_model": None,
        "diagnostics": {},
        "evaluation": {
            "split": part,
            "fine_tune": None if fit is None else {**fit, "compare": True},
            "quantiles": list(config.evaluation.quantiles),
        },
    }


def evaluate_new_clients(
    comm: Communicator,
    run: Path,
    config: Config,
    *,
    trust: bool = False,
) -> NewClients | None:
    """Evaluate clients that had no part in a finished run; a collective call.

    A new client gets the shared block u, and for its personal block the mean of those
    of the clients of its group that took part, as for buffers. If the configuration
    fits models, that is done from there, on the client's own training samples; a client
    without any keeps what it got.

    Parameters
    ----------
    comm
        The ranks.
    run
        Directory of the run.
    config
        From `evaluation_config`. Of the run's own data set, those clients are evaluated
        that it did not train; of another one, all.
    trust
        As of `load_client_model`.

    Returns
    -------
    NewClients
        On the server; `None` elsewhere.

    Raises
    ------
    FedAPMError
        If the run is not finished, there is no new client, or the data do not fit.
    """
    whole = read_shared_manifest(config, comm)
    final: FinalRun | None = None
    chosen = np.zeros(0, np.int64)
    error: FedAPMError | None = None
    try:
        final = final_run(run, trusted=trust, way="--trust")
        chosen = _new(final, whole, run)
        whole = _as_trained(whole, final.manifest)
    except Exception as caught:  # of a user's own model
        error = to_fedapm_error(caught, building=True)
    comm.raise_collectively(error)
    assert final is not None
    context, message = _opened(open_context(config, comm, whole), final, run)
    found = evaluate_clients(context, message, final.config.rounds, chosen)
    if comm.rank != SERVER:
        return None
    assert found is not None  # as there are clients
    columns = client_columns(context.task, config.evaluation.variants)
    names = context.task.metric_set().names
    return NewClients(found.record, columns, found.clients, names)


def _opened(
    context: TrainingContext, final: FinalRun, run: Path
) -> tuple[TrainingContext, Tensor]:
    """Return a context of what new clients begin with, and the message that holds u.

    A collective call.
    """
    message: Tensor | None = None
    error: FedAPMError | None = None
    try:
        message = _given(context, final, run)
    except Exception as caught:
        error = to_fedapm_error(caught, building=True)
    context.comm.raise_collectively(error)
    assert message is not None
    # Its table of states has been made of what clients began with before.
    return replace(context), message


def _new(final: FinalRun, whole: Manifest, run: Path) -> NDArray[np.int64]:
    """Return the clients of a data set that had no part in a run."""
    trained = final.manifest
    if whole.sha256 == trained.sha256:
        if whole.num_clients == trained.num_clients:
            msg = (
                f"{run} trained all {trained.num_clients} clients of {whole.directory};"
                " name another data set by --data, or hold clients out with "
                "'fedapm prepare … new_clients=0.2'"
            )
            raise DataError(msg)
        return np.arange(trained.num_clients, whole.num_clients)
    if final.config.groups:
        msg = (
            f"the clients of {run} have models of their own by groups, which name "
            "clients of its own data set; hold some of these out to evaluate them"
        )
        raise ConfigError(msg)
    for what, ours, theirs in (
        ("inputs", _described(whole), _described(trained)),
        ("classes", whole.classes, trained.classes),
        ("targets", _target(whole), _target(trained)),
        ("encodings of columns", whole.encoding, trained.encoding),
    ):
        if ours != theirs and not (what == "classes" and whole.target is not None):
            msg = (
                f"{whole.directory} has other {what} than the data set of {run} "
                f"({trained.directory}); prepare it in the same way"
            )
            raise DataError(msg)
    return np.arange(whole.num_clients)


def _as_trained(whole: Manifest, trained: Manifest) -> Manifest:
    """Return a manifest of all clients, with the scale of targets that was trained."""
    target = whole.target
    if target is not None and trained.target is not None:
        target = replace(target, mean=trained.target.mean, std=trained.target.std)
    return replace(whole, new_clients=0, target=target)


def _described(manifest: Manifest) -> list[tuple[Any, ...]]:
    return [(s.name, s.shape, s.ragged, s.codes, s.complex) for s in manifest.inputs]


def _target(manifest: Manifest) -> tuple[Any, ...] | None:
    one = manifest.target
    return None if one is None else (one.kind, one.names, one.shape)


def _given(context: TrainingContext, final: FinalRun, run: Path) -> Tensor:
    """Set what new clients begin with, and return the message that holds u."""
    states = client_states(run)
    means = list(_means(final, states))
    for group, mean in zip(context.groups.members, means, strict=True):
        for name, value in mean.items():
            own = group.initial[name]
            if own.shape == value.shape and own.is_floating_point():
                own.copy_(value)
    layout = context.payload
    message = torch.zeros(layout.down_length, dtype=context.dtype)
    rows, buffers = final.server["rows"], final.server["buffers"]
    layout.pack(rows[:1].to(context.dtype), buffers.to(context.dtype), message)
    return message


def _means(
    final: FinalRun, states: Mapping[int, ClientState]
) -> Iterator[dict[str, Tensor]]:
    """Yield the means of each group's personal blocks and buffers, in float64."""
    for g, _ in enumerate(final.groups.members):
        own = [
            states[client]
            for client in np.flatnonzero(final.groups.of_client == g).tolist()
            if client in states
        ]
        yield {
            name: torch.stack([one[name].double() for one in own]).mean(dim=0)
            for name in ("personal", "buffers")
            if own and name in own[0]
        }
