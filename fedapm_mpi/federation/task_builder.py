"""Build the task of a run, and try it on made-up outputs before training."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedapm_mpi.config.schema import PluginConfig
from fedapm_mpi.engine.inference import measure
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.federation.builder import build_plugin
from fedapm_mpi.plugins.errors import is_expected, plugin_error
from fedapm_mpi.plugins.names import is_user_plugin, plugin_label
from fedapm_mpi.tasks import MetricSet, Task, tasks

LABEL_DTYPE = "int64"
"""Type of the targets in a data set: the labels' class numbers."""


def build_task(part: PluginConfig, num_classes: int) -> Task:
    """Return the task that models are trained for.

    Raises
    ------
    ConfigError
        If it cannot be built, its metrics are incomplete, data sets hold no targets of
        its type, or a method of the user's fails on made-up outputs.
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
    if task.target_dtype != LABEL_DTYPE:
        msg = (
            f"{what} needs targets of dtype {task.target_dtype}, but data sets hold "
            f"class labels, which are {LABEL_DTYPE}"
        )
        raise ConfigError(msg)
    try:
        MetricSet.from_plain(task.metric_set().plain())
    except ValueError as error:
        msg = f"{what}: {error}"
        raise ConfigError(msg) from error
    if is_user_plugin(part["name"]):
        _try(task, what, num_classes)
    return task


def _try(task: Task, what: str, num_classes: int) -> None:
    """Raise `ConfigError` where a task of the user's fails on two made-up samples."""

    def call(method: Callable[..., Any], *args: Any) -> Any:
        try:
            return method(*args)
        except Exception as error:
            if isinstance(error, FedAPMError) and is_expected(error):
                msg = f"{what}: {error}"
                raise ConfigError(msg) from error
            raise plugin_error(what, error, building=True) from error

    size = call(task.output_size, num_classes)
    outputs = torch.linspace(-1, 1, 2 * size).reshape(2, size).requires_grad_()
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
    predictions, labels = found.float().numpy(), targets.numpy()
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
