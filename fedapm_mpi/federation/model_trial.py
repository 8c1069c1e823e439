"""One evaluation pass and two training passes of a model, before anything is trained.

They show what would otherwise end a run in the middle: a model that does not take the
data, returns other outputs than the task needs, or cannot be trained on one sample.
"""

import copy
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fedapm_mpi.config.plugin_sources import user_plugin_names
from fedapm_mpi.config.schema import PluginConfig
from fedapm_mpi.data.manifest import InputSpec, Manifest
from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.buffers import changed_buffer, kept_buffers, kind_and_shape
from fedapm_mpi.engine.local_objective import outputs_of
from fedapm_mpi.engine.model_outputs import expected
from fedapm_mpi.engine.partitioned_model import PartitionedModel, trainable
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.federation.task_builder import made_up_targets, targets_of
from fedapm_mpi.plugins.errors import describe_error, user_location
from fedapm_mpi.plugins.names import plugin_label
from fedapm_mpi.tasks import Targets, Task
from fedapm_mpi.utils.rng import seeded_globals


class Trial(NamedTuple):
    """What a trial found of a model that can be trained."""

    least: int
    """Samples in the smallest batch on which it can be trained, 1 or 2."""

    reason: str
    """Why not on one."""

    draws: bool
    """Whether it draws at random in evaluation."""

    outputs: tuple[float, ...]
    """A few sums of the scores, which differ between models."""


def try_model(
    model: PartitionedModel,
    part: PluginConfig,
    inputs: Sequence[InputSpec],
    manifest: Manifest,
) -> Trial:
    """Run a copy of a model on made-up samples; the model stays as it is.

    Raises
    ------
    ConfigError
        If it does not turn these inputs into the task's outputs, or cannot be trained
        on two samples.
    """
    name, targets = plugin_label("model", part["name"]), targets_of(manifest)
    task = model.task
    shapes = ", ".join(f"{spec.name} {spec.shape}" for spec in inputs)
    where = f"the inputs of {manifest.directory} ({shapes})"
    two = made_up(inputs, 2, model.dtype, targets)
    with seeded_globals(0), torch.random.fork_rng(devices=[]), _copy(model) as module:
        torch.default_generator.manual_seed(0)
        module.eval()
        before = _drawn()
        found = _outputs(module, two, task, name, f"cannot take {where}")
        _check_outputs(found, targets.size, model, name)
        draws = _drawn() != before
        outputs = _figures(found)
        if _is_known(module, part):
            return Trial(1, "", draws, outputs)
        module.train()
        found = _outputs(module, two, task, name, f"cannot be trained on {where}")
        _check_outputs(found, targets.size, model, name)
        outputs += _figures(found)
        if not found.requires_grad:
            msg = (
                f"{name} returned {task.outputs} that depend on no parameter that is "
                "trained, so there is nothing to train; look at its forward for "
                "detach, no_grad or values taken out of torch"
            )
            raise ConfigError(msg)
        kept = kept_buffers(module, model.buffer_layout)
        layout = {key: kind_and_shape(buffer) for key, buffer in kept}
        if layout != model.buffer_layout:
            msg = f"{name}: {changed_buffer(model.buffer_layout, layout)}"
            raise ConfigError(msg)
        reason = _fault_on(module, two.rows(torch.tensor([0])), task)
        if reason is not None:
            try:
                found = outputs_of(module, two, task)
                finite = _finite(module, found, two.targets, task)
            except Exception as error:
                msg = f"{name} cannot be trained on {where}: {_brief(error)}"
                raise ConfigError(msg) from error
            # Where two are not finite, made-up samples do not suit the model.
            reason = reason if finite else None
    return Trial(1 if reason is None else 2, reason or "", draws, outputs)


def made_up(
    inputs: Sequence[InputSpec], count: int, dtype: torch.dtype, targets: Targets
) -> Samples:
    """Return samples with distinct values in [0, 1), the same each time.

    Values that stand for indices are then all 0, which exists. All are of class 0, or
    have targets like those of the data set.
    """
    rng = torch.Generator().manual_seed(0)
    given = torch.zeros(count, dtype=torch.int64)
    if targets.kind != "class":
        given = made_up_targets(targets, count, torch.Generator().manual_seed(0))
        if targets.kind != "dense":
            given = given.to(dtype)
    return Samples(
        tuple(_values(s, count, dtype, rng) for s in inputs),
        {s.name: torch.full((count,), s.shape[0]) for s in inputs if s.ragged},
        given,
    )


def _values(
    spec: InputSpec, count: int, dtype: torch.dtype, rng: torch.Generator
) -> Tensor:
    drawn = torch.rand(count, *spec.stored_shape, generator=rng, dtype=torch.float64)
    if spec.complex:
        return torch.view_as_complex(drawn.to(dtype))
    return (drawn * spec.codes).long() if spec.codes else drawn.to(dtype)


@contextmanager
def _copy(model: PartitionedModel) -> Iterator[nn.Module]:
    """Yield a copy of a module that shares its parameters alone, to be thrown away.

    One that cannot be copied is used itself, and given its buffers back.
    """
    module = model.module
    shared = {id(p): p for p in module.parameters()}
    try:
        copied: nn.Module | None = copy.deepcopy(module, shared)
    except Exception:
        copied = None
    if copied is not None:
        yield copied
        return
    places = [
        (part, key, buffer, None if buffer is None else buffer.clone())
        for part in module.modules()
        for key, buffer in part._buffers.items()
    ]
    training = module.training
    try:
        yield module
    finally:
        module.train(training)
        for part, key, buffer, values in places:
            part._buffers[key] = buffer
            if buffer is not None and values is not None:
                buffer.data.copy_(values)


def _outputs(
    module: nn.Module, samples: Samples, task: Task, name: str, fault: str
) -> Tensor:
    try:
        with torch.set_grad_enabled(module.training), _watched(module):
            return outputs_of(module, samples, task)
    except FedAPMError as error:
        text = str(error)
        own = text.removeprefix("the model")
        msg = f"{name}{own}" if own != text else f"{name}: {text}"
        raise ConfigError(msg) from error
    except Exception as error:
        msg = f"{name} {fault}: {_brief(error)}"
        raise ConfigError(msg) from error


@contextmanager
def _watched(module: nn.Module) -> Iterator[None]:
    """Raise `ConfigError` where a layer normalises single values, so that all are 0."""

    def watch(path: str, part: nn.Module, args: tuple[Any, ...]) -> None:
        if isinstance(part, nn.GroupNorm):
            values = args[0][:1].numel() // part.num_groups
        else:
            values = math.prod(part.normalized_shape)  # type: ignore[arg-type]
        if values == 1:
            msg = (
                f"the layer {path!r} ({type(part).__name__}) normalises single values, "
                "so that what it gives does not depend on its input; let it take more "
                "at a time, say by fewer groups"
            )
            raise ConfigError(msg)

    handles = [
        part.register_forward_pre_hook(partial(watch, path))
        for path, part in module.named_modules()
        if isinstance(part, nn.GroupNorm | nn.LayerNorm)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _brief(error: Exception) -> str:
    """Return an error's kind, what it says, and the line of the user's own code."""
    return f"{describe_error(error)}{user_location(error)}"


def _check_outputs(
    found: Tensor, classes: int, model: PartitionedModel, name: str
) -> None:
    task = model.task
    fault = task.check_outputs(found.shape, len(found), classes)
    if fault:
        msg = f"{name} gives {fault}"
        raise ConfigError(msg)
    if not found.is_floating_point():
        msg = f"{name} gives {task.outputs} of dtype {found.dtype}; {expected(task)}"
        raise ConfigError(msg)
    if found.device != model.device:
        msg = (
            f"{name} gives {task.outputs} on {found.device} for inputs on "
            f"{model.device}; its forward must stay on the device of its inputs"
        )
        raise ConfigError(msg)


def _figures(found: Tensor) -> tuple[float, ...]:
    """Return a few sums of scores with different weights; any one score counts."""
    values = found.detach().double().reshape(-1)
    places = torch.arange(len(values), dtype=torch.float64)
    return tuple(float(values @ torch.cos(k * places)) for k in (0.0, 1.0, 2.5))


def _drawn() -> tuple[bytes, bytes, tuple[object, ...], object]:
    """Return where torch's and the global generators of NumPy and Python are."""
    _, words, *rest = np.random.get_state()  # noqa: NPY002
    torch_state = torch.get_rng_state().numpy().tobytes()
    return torch_state, np.asarray(words).tobytes(), tuple(rest), random.getstate()


def _is_known(module: nn.Module, part: PluginConfig) -> bool:
    """Return whether a model is one of the package's that can be trained on any batch.

    For these, which may be large, the training passes are spared.
    """
    norms = nn.modules.batchnorm._BatchNorm
    return not user_plugin_names({"model": part}) and not any(
        isinstance(one, norms) for one in module.modules()
    )


def _fault_on(module: nn.Module, one: Samples, task: Task) -> str | None:
    """Return why a model cannot be trained on a single sample."""
    try:
        found = outputs_of(module, one, task)
        finite = _finite(module, found, one.targets, task)
    except Exception as error:
        return _brief(error)
    return None if finite else "its loss or gradient is not finite there"


def _finite(module: nn.Module, found: Tensor, labels: Tensor, task: Task) -> bool:
    """Return whether a loss and its gradient are finite."""
    loss = task.loss(found, labels)
    trained = [p for _, p in trainable(module)]
    slopes = torch.autograd.grad(loss, trained, allow_unused=True)
    values = [loss, *(slope for slope in slopes if slope is not None)]
    return all(bool(value.isfinite().all()) for value in values)
