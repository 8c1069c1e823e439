"""Build the task of a run, and try it on made-up outputs before training."""

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from fedapm_mpi.config.schema import PluginConfig
from fedapm_mpi.data.manifest import Manifest
from fedapm_mpi.engine.inference import measure, metric_targets
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.federation.builder import build_plugin
from fedapm_mpi.metrics import Metric, metrics
from fedapm_mpi.plugins.errors import is_expected, plugin_error
from fedapm_mpi.plugins.names import is_user_plugin, plugin_label
from fedapm_mpi.tasks import MetricSet, Targets, Task, tasks
from fedapm_mpi.tasks.base import SampleTask, TargetKind, with_metrics


def build_task(
    part: PluginConfig, manifest: Manifest, added: Sequence[PluginConfig] = ()
) -> Task:
    """Return the task that models are trained for, for the targets of a data set.

    `added` are further metrics.

    Raises
    ------
    ConfigError
        If it cannot be built, its metrics are incomplete, the data set has targets of
        another kind, or a method of the user's fails on made-up outputs.
    """
    task: Any = build_plugin(tasks, part)
    what = plugin_label("task", part["name"])
    if not isinstance(task, Task):
        msg = (
            f"{what} returned {type(task).__name__}; it must be a subclass of "
            "fedapm_mpi.tasks.Task"
        )
        raise ConfigError(msg)
    if not task.higher_is_better:
        msg = f"{what} has no metric; name at least one in higher_is_better"
        raise ConfigError(msg)
    targets = targets_of(manifest)
    if task.target_kind != targets.kind:
        msg = (
            f"{what} needs {_described(task.target_kind)}, but {manifest.directory} "
            f"has {_described(targets.kind)}; choose a task for these, such as "
            f"{_suitable(targets.kind)}, or prepare the data set with another target"
        )
        raise ConfigError(msg)
    if targets.incomplete and not task.takes_incomplete:
        msg = (
            f"{what} needs all targets of a sample, but samples of "
            f"{manifest.directory} lack some; choose a task that takes_incomplete, or "
            "prepare the data set without these samples"
        )
        raise ConfigError(msg)
    made = _for_targets(task, targets, what)
    try:
        MetricSet.from_plain(task.metric_set().plain())
    except ValueError as error:
        msg = f"{what}: {error}"
        raise ConfigError(msg) from error
    if is_user_plugin(part["name"]):
        _try(made, what, targets)
    if manifest.weights and type(made).loss is not SampleTask.loss:
        fault = loss_fault(made, targets)
        if fault:
            msg = f"{what}: samples of {manifest.directory} have weights, but {fault}"
            raise ConfigError(msg)
    return _with_metrics(made, targets, added)


def loss_fault(task: Task, described: Targets) -> str:
    """Return why a loss cannot be taken by sample; empty if it can."""
    generator = torch.Generator().manual_seed(0)
    count = 2 * described.size + 3
    shape = (count, task.output_size(described.size))
    outputs = torch.randn(shape, generator=generator, dtype=torch.float64)
    targets = made_up_targets(described, count, generator)
    try:
        losses = task.sample_losses(outputs, targets)
        whole = task.loss(outputs, targets)
    except Exception as error:  # of torch, for what it cannot batch, or the user's
        line = next(iter(str(error).splitlines()), type(error).__name__)
        return f"the loss cannot be taken by sample: {line}"
    if losses.shape == (count,) and torch.allclose(losses.mean(), whole, rtol=1e-6):
        return ""
    return "the loss of a batch is not the mean of the losses of its samples"


def _with_metrics(task: Task, targets: Targets, parts: Sequence[PluginConfig]) -> Task:
    """Return the task with further metrics, tried on made-up predictions."""
    given = [build_plugin(metrics, part) for part in parts]
    for part, one in zip(parts, given, strict=True):
        if not isinstance(one, Metric) or not getattr(one, "label", ""):
            msg = (
                f"{plugin_label('metric', part['name'])} returned "
                f"{type(one).__name__}; it must be a fedapm_mpi.metrics.Metric with a "
                "label"
            )
            raise ConfigError(msg)
    made = with_metrics(task, targets, given)
    if made.added:
        _try_metrics(made, targets)
    return made


def _try_metrics(task: Task, targets: Targets) -> None:
    """Raise `ConfigError` where a metric fails on a few made-up samples."""
    drawn = made_up_targets(targets, 8, torch.Generator().manual_seed(0))
    if targets.kind == "class":
        drawn = torch.arange(8) % targets.size
    size = task.output_size(targets.size)
    outputs = torch.linspace(-1, 1, 8 * size).reshape(8, size).double().cos()
    predictions = task.metric_inputs(outputs, drawn).float().numpy()
    pair = task.metric_pair(predictions, metric_targets(task, drawn))
    for metric in task.added:
        try:
            float(metric.compute(*pair))
        except Exception as error:
            if isinstance(error, FedAPMError) and is_expected(error):
                msg = f"metrics: {error}"
                raise ConfigError(msg) from error
            what = f"metric {metric.label!r}"
            raise plugin_error(what, error, building=True) from error


def targets_of(manifest: Manifest) -> Targets:
    """Return what a data set says of its targets."""
    target = manifest.target
    if target is None:
        counts = manifest.label_counts["train"].sum(axis=0)
        return Targets("class", manifest.classes, tuple(counts.tolist()))
    kind = cast("TargetKind", target.kind)
    return Targets(
        kind,
        target.names,
        mean=target.mean,
        std=target.std,
        shape=target.shape,
        incomplete=target.incomplete,
    )


def made_up_targets(targets: Targets, count: int, generator: torch.Generator) -> Tensor:
    """Return targets of a number of samples, drawn.

    (n,) int64, (n, *shape) int64 if they are dense, else (n, k) float64.
    """
    size = targets.size
    if targets.kind == "dense":
        return torch.randint(size, (count, *targets.shape), generator=generator)
    if targets.kind == "class":
        return torch.randint(size, (count,), generator=generator)
    if targets.kind == "binary":
        found = torch.randint(2, (count, size), generator=generator).double()
    else:
        drawn = torch.rand(count, size, generator=generator, dtype=torch.float64)
        mean, std = (torch.tensor(one) for one in (targets.mean, targets.std))
        found = mean + std * (drawn - 0.5)
        if min(targets.mean) >= 0:  # counts are not negative
            found = found.clamp(min=0)
    if targets.incomplete and size > 1:
        found[::2, 0] = torch.nan
    return found


def _suitable(kind: TargetKind) -> str:
    """Return the package's tasks for a kind of target."""
    every = {name: tasks.get(name) for name in tasks.builtin_names()}
    fits = [n for n, one in every.items() if getattr(one, "target_kind", "") == kind]
    return ", ".join(fits)


def _described(kind: TargetKind) -> str:
    return {
        "class": "one class for each sample",
        "real": "real targets",
        "binary": "labels that apply or not (binary targets)",
        "dense": "one class for each position (dense targets)",
    }[kind]


def _for_targets(task: Task, targets: Targets, what: str) -> Task:
    try:
        found: Any = task.for_targets(targets)
    except Exception as error:
        if isinstance(error, FedAPMError) and is_expected(error):
            msg = f"{what}: {error}"
            raise ConfigError(msg) from error
        raise plugin_error(what, error, building=True) from error
    if not isinstance(found, Task):
        msg = f"{what}: for_targets returned {type(found).__name__}, not a task"
        raise ConfigError(msg)
    return found


def _try(task: Task, what: str, described: Targets) -> None:
    """Raise `ConfigError` where a task of the user's fails on two made-up samples."""

    def call(method: Callable[..., Any], *args: Any) -> Any:
        try:
            return method(*args)
        except Exception as error:
            if isinstance(error, FedAPMError) and is_expected(error):
                msg = f"{what}: {error}"
                raise ConfigError(msg) from error
            raise plugin_error(what, error, building=True) from error

    num_classes = described.size
    shape = (2, *call(task.output_shape, num_classes))
    outputs = torch.linspace(-1, 1, math.prod(shape)).reshape(shape).requires_grad_()
    targets = made_up_targets(described, 2, torch.Generator().manual_seed(0))
    if described.kind == "class":
        targets = torch.arange(2) % num_classes
    for reduction in ("mean", "sum"):
        loss = call(task.loss, outputs, targets, reduction)
        if not isinstance(loss, Tensor) or loss.shape or not loss.requires_grad:
            msg = (
                f"{what}: loss must return a Tensor without axes that depends on the "
                f"outputs, but with reduction {reduction!r} it returned {_shown(loss)}"
            )
            raise ConfigError(msg)
    with torch.inference_mode():
        found = call(task.predict, outputs.detach())
    expected = (2, call(task.prediction_size, num_classes))
    if not isinstance(found, Tensor) or found.shape != expected:
        msg = f"{what}: predict must return a Tensor {expected}, not {_shown(found)}"
        raise ConfigError(msg)
    with torch.inference_mode():
        found = call(task.metric_inputs, outputs.detach(), targets)
    expected = (2, call(task.metric_input_size, num_classes))
    if not isinstance(found, Tensor) or found.shape != expected:
        msg = (
            f"{what}: metric_inputs must return a Tensor {expected}, not "
            f"{_shown(found)}"
        )
        raise ConfigError(msg)
    predictions, labels = found.float().numpy(), metric_targets(task, targets)
    call(measure, task, predictions, labels)
    counts = call(task.counts, predictions, labels)
    if len(counts) != len(task.client_counts):
        msg = f"{what}: counts gave {counts!r} for {task.client_counts}"
        raise ConfigError(msg)
    table = np.array([counts], dtype=np.float64)
    record = call(task.record_statistics, np.array([2.0]), table)
    if set(record) != set(task.statistics):
        msg = f"{what}: record_statistics gave {sorted(record)} for {task.statistics}"
        raise ConfigError(msg)


def _shown(found: Any) -> str:
    """Return what a method gave, for messages."""
    if not isinstance(found, Tensor):
        return type(found).__name__
    constant = "" if found.requires_grad else " without gradient"
    return f"a Tensor {tuple(found.shape)}{constant}"
