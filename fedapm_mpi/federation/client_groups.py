"""Groups of clients with the same model; there is one, unless the configuration says.

All models share by name. What one group shares, every other must share too, with the
same shape, except for what the configuration lets only some hold.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedapm_mpi.algorithms import Algorithm, ClientState
from fedapm_mpi.config.schema import Config, PluginConfig
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
    move_up,
    split_module,
)
from fedapm_mpi.federation.client_selection import assign_groups, model_inputs
from fedapm_mpi.federation.model_trial import try_model
from fedapm_mpi.federation.shared_layout import SharedLayout
from fedapm_mpi.federation.task_builder import build_task, targets_of
from fedapm_mpi.optim.batching import Batching
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.tasks import Task


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
    """A few sums of its scores in `model_trial.try_model`."""

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
        """Return what a client holds of (…, d) values; see `SharedLayout.restrict`."""
        return self.space.restrict(int(self.of_client[client]), values)

    def extend(self, client: int, values: Tensor) -> Tensor:
        """Return a client's values in the server's layout; `SharedLayout.extend`."""
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


def build_modules(config: Config, manifest: Manifest) -> list[nn.Module]:
    """Return the initial model of each group of clients, before it is split.

    Raises
    ------
    ConfigError
        If the clients of groups overlap, or a model does not fit its inputs.
    """
    wanted, _ = _wanted_models(config, manifest)
    task = build_task(config.task, manifest, config.metrics)
    return _build_modules(config, manifest, wanted, task)


def _wanted_models(
    config: Config, manifest: Manifest
) -> tuple[list[_GroupSpec], NDArray[np.int64]]:
    """Return the groups that have clients, and the group of each client."""
    of_client = assign_groups(config.groups, manifest)
    wanted = [_GroupSpec("model", config.model, manifest.inputs)]
    for k, group in enumerate(config.groups):
        inputs = model_inputs(group, manifest, f"groups[{k}]")
        wanted.append(_GroupSpec(f"groups[{k}]", group.model, inputs))
    # Of the clients that are in no group there may be none.
    if not (of_client == 0).any():
        return wanted[1:], of_client - 1
    return wanted, of_client


def _build_modules(
    config: Config, manifest: Manifest, wanted: Sequence[_GroupSpec], task: Task
) -> list[nn.Module]:
    size = task.output_size(targets_of(manifest).size)
    modules = [build_module(config, w.model, w.inputs, size) for w in wanted]
    check_distinct(modules, [w.name for w in wanted])
    if config.initial_model is not None:
        load_initial(modules, config.initial_model)
    if config.replicate:
        move_up(modules, config.replicate)
    return modules


def build_groups(
    config: Config, manifest: Manifest, sharing: str, *, takes_empty: bool = False
) -> ClientGroups:
    """Return all groups, with their initial models.

    What several groups share starts as the first of them has it. For `sharing` and
    `takes_empty` see `split_module`.

    Raises
    ------
    ConfigError
        If the clients of groups overlap, a model does not fit its inputs, or models do
        not agree on what they share.
    """
    wanted, of_client = _wanted_models(config, manifest)
    task = build_task(config.task, manifest, config.metrics)
    modules = _build_modules(config, manifest, wanted, task)
    names = {name for module in modules for name, _ in trainable(module)}
    models = []
    for one, module in zip(wanted, modules, strict=True):
        try:
            models.append(
                split_module(module, config, sharing, names, takes_empty=takes_empty)
            )
        except ConfigError as error:
            raise _of_group(error, one, config) from error
    for model in models:
        model.task = task
    shapes = [model.shared_shapes() for model in models]
    personal = {name for model in models for name in model.personal_names}
    _agree([w.name for w in wanted], shapes, config.partially_shared or (), personal)
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


def _agree(
    names: Sequence[str],
    shapes: Sequence[dict[str, tuple[int, ...]]],
    partially_shared: Sequence[str],
    personal: Collection[str],
) -> None:
    """Raise `ConfigError` where groups share different things; name the first.

    A pattern of `partially_shared` may match `personal` parameters alone, so that a
    configuration can be copied from one split to another.
    """
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
    for pattern in partially_shared:
        candidates = [*(name for name, _ in partial), *personal]
        if not any(fnmatchcase(name, pattern) for name in candidates):
            hint = did_you_mean(pattern, [name for name, _ in partial])
            msg = (
                f"partially_shared: {pattern!r} matches no shared parameter that only "
                f"some groups have{hint}"
            )
            raise ConfigError(msg)
    for name, group in partial:
        if not any(fnmatchcase(name, pattern) for pattern in partially_shared):
            msg = (
                f"{first[name][0]} has the shared parameter {name!r}, but {group} does "
                "not; make it personal, name it alike in both, or put it under "
                "partially_shared to average it over those that have it"
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
