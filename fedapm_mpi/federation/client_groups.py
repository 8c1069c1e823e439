"""Groups of clients with the same model; there is one, unless the configuration says.

All models share by name. What one group shares, every other must share too, with the
same shape, except for what the configuration lets only some hold.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.algorithms import Algorithm, ClientState
from fedapm_mpi.config.schema import Config, Group, PluginConfig
from fedapm_mpi.data.manifest import InputSpec, Manifest
from fedapm_mpi.engine.model_tensors import check_distinct
from fedapm_mpi.engine.partitioned_model import (
    ParameterInfo,
    PartitionedModel,
    trainable,
)
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.federation.builder import (
    build_module,
    load_initial,
    split_module,
)
from fedapm_mpi.federation.model_trial import try_model
from fedapm_mpi.federation.shared_layout import SharedLayout
from fedapm_mpi.federation.task_builder import build_task
from fedapm_mpi.optim.batching import Batching
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.tasks import Task
from fedapm_mpi.utils.text import MAX_LENGTH, format_value


@dataclass(frozen=True)
class ClientGroup:
    """What clients with the same model have in common."""

    name: str
    """What the configuration calls it, for messages."""

    model: PartitionedModel
    """The rank's one model of this kind."""

    initial: ClientState
    """Initial "shared" and "personal" vectors, and "buffers" and "counters"."""

    inputs: tuple[InputSpec, ...]
    """What the model is given, in this order."""

    outputs: tuple[float, ...]
    """A few figures of its scores in `trial.try_model`."""

    def new_client(self, algorithm: Algorithm) -> ClientState:
        """Return the state of a client that has not taken part yet."""
        state = algorithm.new_client(self.initial["shared"], self.initial["personal"])
        for name in ("buffers", "counters"):
            if self.initial[name].numel():
                state[name] = self.initial[name].clone()
        return state


@dataclass(frozen=True)
class ClientGroups:
    """All groups, and which client is in which."""

    members: tuple[ClientGroup, ...]
    of_client: NDArray[np.int64]
    """(m,) the group of each client."""

    space: SharedLayout
    task: Task
    """What all models are trained for."""

    _members: dict[tuple[int, ...], NDArray[np.bool_]] = field(default_factory=dict)

    def of(self, client: int) -> ClientGroup:
        """Return a client's group."""
        return self.members[int(self.of_client[client])]

    def restrict(self, client: int, values: Tensor) -> Tensor:
        """Return what a client holds of (…, d) values; see `SharedLayout.take`."""
        return self.space.restrict(int(self.of_client[client]), values)

    def extend(self, client: int, values: Tensor) -> Tensor:
        """Return a client's values in the server's layout; `SharedLayout.spread`."""
        return self.space.extend(int(self.of_client[client]), values)

    def clients(self, groups: Sequence[int]) -> NDArray[np.bool_]:
        """Return which clients are in these groups, (m,); not to be changed."""
        key = tuple(groups)
        if key not in self._members:  # asked for in every round
            self._members[key] = np.isin(self.of_client, groups)
        return self._members[key]

    def move(self, device: torch.device) -> None:
        """Move all models to a device; initial vectors stay where they are."""
        for group in self.members:
            if group.model.device != device:
                group.model.move(device)

    def initial_shared(self) -> Tensor:
        """Return the server's first u, (d,)."""
        total = self.members[0].initial["shared"].new_zeros(self.space.size)
        for g, group in enumerate(self.members):
            for name in group.model.shared_names:
                local = self.space.local(g, name)
                total[self.space.places[name]] = group.initial["shared"][local]
        return total

    def table(self) -> list[ParameterInfo]:
        """Return one row for each parameter and buffer of any model."""
        counts = np.bincount(self.of_client, minlength=len(self.members))
        rows: dict[tuple[object, ...], ParameterInfo] = {}
        for group, clients in zip(self.members, counts.tolist(), strict=True):
            for row in group.model.table(clients):
                key = (row.name, row.shape, row.block)
                before = rows[key].clients if key in rows else 0
                rows[key] = row._replace(clients=before + clients)
        return list(rows.values())


class _GroupSpec(NamedTuple):
    """A group as the configuration has it."""

    name: str
    model: PluginConfig
    inputs: tuple[InputSpec, ...]


def build_groups(config: Config, manifest: Manifest, sharing: str) -> ClientGroups:
    """Return all groups, with their initial models.

    What several groups share starts as the first of them has it.

    Raises
    ------
    ConfigError
        If clients cannot be told apart, a model does not fit its inputs, or models do
        not agree on what they share.
    """
    of_client = assign_groups(config.groups, manifest)
    wanted = [_GroupSpec("model", config.model, manifest.inputs)]
    for k, group in enumerate(config.groups):
        inputs = _inputs(group, manifest, f"groups[{k}]")
        wanted.append(_GroupSpec(f"groups[{k}]", group.model, inputs))
    # Of the clients that are in no group there may be none.
    if not (of_client == 0).any():
        del wanted[0]
        of_client = of_client - 1
    modules = [
        build_module(config, w.model, w.inputs, len(manifest.classes)) for w in wanted
    ]
    check_distinct(modules, [w.name for w in wanted])
    if config.initial_model is not None:
        load_initial(modules, config.initial_model)
    names = {name for module in modules for name, _ in trainable(module)}
    models = []
    for one, module in zip(wanted, modules, strict=True):
        try:
            models.append(split_module(module, config, sharing, names))
        except ConfigError as error:
            raise _of_group(error, one, config) from error
    task = build_task(config.task, len(manifest.classes))
    for model in models:
        model.task = task
    shapes = [model.shared_shapes() for model in models]
    _agree([w.name for w in wanted], shapes, config.held_by_some or ())
    space = SharedLayout(shapes)
    _share_initial(models)
    members = []
    for one, model in zip(wanted, models, strict=True):
        initial = {"shared": model.shared.clone(), "personal": model.personal.clone()}
        initial["buffers"], initial["counters"] = model.read_buffers()
        try:
            tried = try_model(model, one.model, one.inputs, manifest)
        except ConfigError as error:
            raise _of_group(error, one, config) from error
        model.batching = Batching(config.last_batch, tried.least, tried.reason)
        model.draws = tried.draws
        outputs = tried.outputs
        members.append(ClientGroup(one.name, model, initial, one.inputs, outputs))
    if config.buffers == "mean":
        _check_buffers(members)
    return ClientGroups(tuple(members), of_client, space, task)


def assign_groups(groups: Sequence[Group], manifest: Manifest) -> NDArray[np.int64]:
    """Return the group of each client, (m,): 0 for those that no group names.

    Raises
    ------
    ConfigError
        If a group has no client, or a client is in two groups.
    """
    of_client = np.zeros(manifest.num_clients, dtype=np.int64)
    for k, group in enumerate(groups):
        chosen = _chosen(group, manifest, f"groups[{k}]")
        taken = [i for i in chosen if of_client[i]]
        if taken:
            msg = (
                f"client {taken[0]} ({manifest.client_names[taken[0]]}) is in "
                f"groups[{of_client[taken[0]] - 1}] and in groups[{k}]; a client has "
                "one model"
            )
            raise ConfigError(msg)
        of_client[chosen] = k + 1
    return of_client


def _chosen(group: Group, manifest: Manifest, where: str) -> list[int]:
    """Return the clients of a group."""
    if group.clients is not None:
        chosen = _numbered(group.clients, manifest, f"{where}.clients")
    elif group.names is not None:
        chosen = _named(group.names, manifest, f"{where}.names")
    else:
        return _missing_inputs(group.lacks or (), manifest, f"{where}.lacks")
    if not chosen:
        msg = f"{where}: it names no client; name some or remove the group"
        raise ConfigError(msg)
    return sorted(chosen)


def _missing_inputs(inputs: Sequence[str], manifest: Manifest, where: str) -> list[int]:
    _known_inputs(inputs, manifest, where)
    lacking = {name: set(manifest.lacking.get(name, ())) for name in _names(manifest)}
    chosen = [
        i
        for i in range(manifest.num_clients)
        if {name for name in lacking if i in lacking[name]} == set(inputs)
    ]
    if not chosen:
        what = " and ".join(inputs) or "nothing"
        msg = f"{where}: no client of {manifest.directory} lacks just {what}"
        raise ConfigError(msg)
    return chosen


def _named(patterns: Sequence[str], manifest: Manifest, where: str) -> set[int]:
    found: set[int] = set()
    for pattern in patterns:
        names = enumerate(manifest.client_names)
        matched = {i for i, name in names if fnmatchcase(name, pattern)}
        if not matched:
            near = did_you_mean(pattern[:MAX_LENGTH], list(manifest.client_names))
            msg = (
                f"{where}: no client of {manifest.directory} is called "
                f"{format_value(pattern)}{near}"
            )
            raise ConfigError(msg)
        found |= matched
    return found


def _numbered(items: Sequence[int | str], manifest: Manifest, where: str) -> set[int]:
    found: set[int] = set()
    for item in items:
        first, dash, last = str(item).partition("-")
        try:
            start = int(first)
            stop = int(last) if dash else start
        except ValueError:
            msg = (
                f"{where}: {format_value(item)} is neither a number nor a range such "
                "as '0-9'"
            )
            raise ConfigError(msg) from None
        if not 0 <= start <= stop < manifest.num_clients:
            msg = (
                f"{where}: {format_value(item)} is not among the clients of "
                f"{manifest.directory}, 0 to {manifest.num_clients - 1}"
            )
            raise ConfigError(msg)
        found |= set(range(start, stop + 1))
    return found


def _inputs(group: Group, manifest: Manifest, where: str) -> tuple[InputSpec, ...]:
    """Return what a group's model is given."""
    if group.inputs is None:
        kept = set(_names(manifest)) - set(group.lacks or ())
    else:
        _known_inputs(group.inputs, manifest, f"{where}.inputs")
        kept = set(group.inputs)
    if not kept:
        msg = f"{where}: no input is left for its model"
        raise ConfigError(msg)
    return tuple(spec for spec in manifest.inputs if spec.name in kept)


def _names(manifest: Manifest) -> list[str]:
    return [spec.name for spec in manifest.inputs]


def _known_inputs(names: Iterable[str], manifest: Manifest, where: str) -> None:
    known = _names(manifest)
    for name in names:
        if name not in known:
            msg = (
                f"{where}: {manifest.directory} has no input {name!r}"
                f"{did_you_mean(name, known)} (inputs: {', '.join(known)})"
            )
            raise ConfigError(msg)


def _agree(
    names: Sequence[str],
    shapes: Sequence[dict[str, tuple[int, ...]]],
    held_by_some: Sequence[str],
) -> None:
    """Raise `ConfigError` where groups share different things; name the first."""
    first: dict[str, tuple[str, tuple[int, ...]]] = {}
    for group, own in zip(names, shapes, strict=True):
        for name, shape in own.items():
            where, known = first.setdefault(name, (group, shape))
            if known != shape:
                msg = (
                    f"the shared parameter {name!r} has the shape {known} in {where} "
                    f"and {shape} in {group}; make it personal, or of one shape"
                )
                raise ConfigError(msg)
    partial = [
        (name, group)
        for name in first
        for group, own in zip(names, shapes, strict=True)
        if name not in own
    ]
    for pattern in held_by_some:
        if not any(fnmatchcase(name, pattern) for name, _ in partial):
            msg = (
                f"held_by_some: {pattern!r} matches no shared parameter that only some "
                f"groups have{did_you_mean(pattern, [name for name, _ in partial])}"
            )
            raise ConfigError(msg)
    for name, group in partial:
        if not any(fnmatchcase(name, pattern) for pattern in held_by_some):
            msg = (
                f"{first[name][0]} has the shared parameter {name!r}, but {group} does "
                "not; make it personal, name it alike in both, or put it under "
                "held_by_some to average it over those that have it"
            )
            raise ConfigError(msg)


def _share_initial(models: Sequence[PartitionedModel]) -> None:
    """Start what several models share from the values of the first that has it."""
    start: dict[str, Tensor] = {}
    for model in models:
        for name, parameter in model.module.named_parameters():
            if name in model.shared_names:
                parameter.data.copy_(start.setdefault(name, parameter.data))


def _check_buffers(groups: Sequence[ClientGroup]) -> None:
    """Raise `ConfigError` unless buffers can be averaged over all clients."""
    kinds = [
        [row[:3] for row in group.model.table(1) if row.block == "buffer"]
        for group in groups
    ]
    if not kinds[0]:
        msg = "buffers is 'mean', but the model has no floating buffers; remove the key"
        raise ConfigError(msg)
    for group, kind in zip(groups, kinds, strict=True):
        if not group.initial["buffers"].isfinite().all():
            msg = (
                f"buffers is 'mean', but {group.name} has a floating buffer with "
                "values that are not finite, which have no mean; remove the key"
            )
            raise ConfigError(msg)
        if kind != kinds[0]:
            msg = (
                f"buffers is 'mean', but {group.name} has other floating buffers than "
                f"{groups[0].name}; remove the key, so that each client keeps its own"
            )
            raise ConfigError(msg)


def _of_group(error: ConfigError, wanted: _GroupSpec, config: Config) -> ConfigError:
    return ConfigError(f"{wanted.name}: {error}") if config.groups else error
