"""Cache the features of a model's constant stages, which are the same in every pass.

Stages without parameters, such as one that reorders the channels of an image, are
applied when data are read. In a phase that trains one block, the stages before the
first trained parameter have the same output for a sample in every pass, if nothing in
them is random: they are applied once in the phase. A module declares its stages by a
method ``stages``, defined in the class that defines its ``forward``, and guarantees
that only torch's own layers are random in them; the stages of an `nn.Sequential` are
its children.
"""

from collections.abc import Callable, Sequence
from itertools import takewhile

import torch
from torch import Tensor, nn

from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.buffers import count_reals
from fedapm_mpi.models.base import Stage

MAX_CACHE_BYTES = 2**28
"""Bytes that the features of one client may take; larger ones are not cached."""

STOCHASTIC_LAYERS = (
    nn.modules.batchnorm._NormBase,
    nn.RReLU,
    nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d,
)
"""Layers of torch that, in training, are random or depend on the whole batch."""


def stages_of(module: nn.Module) -> list[Stage]:
    """Return a module's stages, in order; none if it does not declare them."""
    kind = type(module)
    if module._forward_hooks or module._forward_pre_hooks:
        return []  # they expect a call of the module itself
    if kind is nn.Sequential:
        return [Stage((child,), child) for child in module.children()]
    # A subclass with its own forward may not follow the stages that it inherits.
    if _where(kind, "stages") is not _where(kind, "forward"):
        return []
    own: Callable[[], Sequence[Stage]] = module.stages  # type: ignore[assignment]
    found = list(own())
    return found if all(isinstance(stage, Stage) for stage in found) else []


def _where(kind: type, name: str) -> type | None:
    return next((base for base in kind.__mro__ if name in vars(base)), None)


def frozen_stages(module: nn.Module) -> tuple[list[Stage], list[Stage]]:
    """Return the stages whose output is the same in every pass, and the rest.

    That depends on which parameters need a gradient at present.
    """
    stages = stages_of(module)
    vouched = type(module) is not nn.Sequential
    worth = 0
    for count, stage in enumerate(stages, start=1):
        parts = [part for top in stage.modules for part in top.modules()]
        if any(_is_stochastic_or_batch_dependent(part, vouched) for part in parts):
            break
        if any(True for part in parts for _ in part.parameters(recurse=False)):
            worth = count
    # Stages after the last parameter are cheap, and their outputs may be large.
    return stages[:worth], stages[worth:]


def forward_rest(stages: Sequence[Stage], features: Tensor) -> Tensor:
    """Return the output of the remaining stages for the features before them."""
    for stage in stages:
        features = stage.run(features)
    return features


def forward_stages(stages: Sequence[Stage], samples: Samples) -> Tensor:
    """Return the output of a model's first stages for samples."""
    if samples.stage:
        return forward_rest(stages[samples.stage :], samples.inputs[0])
    named = {"lengths": samples.lengths} if samples.lengths else {}
    return forward_rest(stages[1:], stages[0].run(*samples.inputs, **named))


def constant_stages(module: nn.Module) -> list[Stage]:
    """Return a module's first stages that have neither parameters nor buffers."""
    vouched = type(module) is not nn.Sequential
    stages = stages_of(module)
    return list(takewhile(lambda stage: _constant(stage, vouched), stages))


@torch.no_grad()
def apply_constant_stages(ahead: Sequence[Stage], samples: Samples) -> Samples:
    """Return the output of a model's `constant_stages` for samples.

    Where that would take more memory, the samples themselves are returned.
    """
    if not ahead or not len(samples.targets):
        return samples
    found = forward_stages(ahead, samples)
    before = sum(count_reals(x) for x in samples.inputs)
    if not _by_sample(found, samples) or count_reals(found) > before:
        return samples
    return Samples((found,), {}, samples.targets, len(ahead), samples.weights)


@torch.no_grad()
def frozen_features(
    stages: Sequence[Stage], samples: Samples, size: int
) -> Tensor | None:
    """Return the features of all samples, (n, ...), computed `size` at a time.

    `None` if they take more than `MAX_CACHE_BYTES`, or are no tensor.
    """
    kept: Tensor | None = None
    done, n = 0, len(samples.targets)
    for chunk in samples.chunks(size):
        found = forward_stages(stages, chunk)
        if not _by_sample(found, chunk):
            return None
        if kept is None:
            if found[0].numel() * found.element_size() * n > MAX_CACHE_BYTES:
                return None
            kept = found.new_empty((n, *found.shape[1:]))
        kept[done : done + len(found)] = found
        done += len(found)
    return kept


def _by_sample(found: object, samples: Samples) -> bool:
    """Return whether an output of stages has one entry for each sample."""
    return isinstance(found, Tensor) and found.shape[:1] == samples.targets.shape[:1]


def _constant(stage: Stage, vouched: bool) -> bool:
    parts = [part for top in stage.modules for part in top.modules()]
    held = [t for part in parts for t in (*part.parameters(), *part.buffers())]
    return not held and not any(
        _is_stochastic_or_batch_dependent(part, vouched) for part in parts
    )


def _is_stochastic_or_batch_dependent(part: nn.Module, vouched: bool) -> bool:
    """Return whether a module's output, or its buffers, may change within a phase.

    A module that is not torch's, or has hooks or buffers, is constant only if the model
    declares its stages, and so guarantees it (`vouched`).
    """
    foreign = not type(part).__module__.startswith("torch.")
    hooks = part._forward_hooks or part._forward_pre_hooks
    own = next(part.buffers(recurse=False), None)
    if not vouched and (foreign or hooks or own is not None):
        return True
    if isinstance(part, nn.modules.dropout._DropoutNd):
        return part.p > 0
    # Attention and recurrent layers have dropout without a layer of their own.
    dropout = getattr(part, "dropout", 0.0)
    drops = isinstance(dropout, float) and dropout > 0
    trained = any(p.requires_grad for p in part.parameters(recurse=False))
    return trained or drops or isinstance(part, STOCHASTIC_LAYERS) or _mixes(part)


def _mixes(part: nn.Module) -> bool:
    """Return whether a layer of torch's may mix the samples of a batch."""
    if getattr(part, "batch_first", True) is False or getattr(part, "start_dim", 1) < 1:
        return True
    dim = getattr(part, "dim", -1)  # of a softmax, for example; with None torch guesses
    return dim is None or (isinstance(dim, int) and (dim == 0 or dim < -1))
