"""Models in stages: what stays the same is computed once, not in every pass.

Stages without parameters, such as one that orders the colours of a picture, are applied
when data are read. In a phase that trains one block, the stages ahead of the first
trained parameter give the same for a sample in every pass, as long as nothing in them
is random: they are applied once in the phase. A module says what its stages are by a
method ``stages``, defined beside its ``forward``, and vouches that apart from torch's
own layers nothing in them is random; an `nn.Sequential` has its children.
"""

from collections.abc import Callable, Sequence
from itertools import takewhile

import torch
from torch import Tensor, nn

from fedapm_mpi.data.samples import Samples
from fedapm_mpi.models.base import Stage

MAX_CACHE_BYTES = 2**28
"""Room that the features of one client may take; beyond, they are not kept."""

STOCHASTIC_LAYERS = (
    nn.modules.batchnorm._NormBase,
    nn.RReLU,
    nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d,
)
"""Layers of torch that, while they train, are random or look at the whole batch."""


def stages_of(module: nn.Module) -> list[Stage]:
    """Return a module's stages, in order; none if it does not tell them."""
    kind = type(module)
    if module._forward_hooks or module._forward_pre_hooks:
        return []  # which want to see a call of the module itself
    if kind is nn.Sequential:
        return [Stage((child,), child) for child in module.children()]
    # A subclass with a forward of its own may do other things than it inherited.
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
    # Those behind the last parameter cost little, and what they give may be large.
    return stages[:worth], stages[worth:]


def forward_rest(stages: Sequence[Stage], features: Tensor) -> Tensor:
    """Return what stages after the first give of the one before."""
    for stage in stages:
        features = stage.run(features)
    return features


def forward_stages(stages: Sequence[Stage], samples: Samples) -> Tensor:
    """Return what all these stages, the model's first, give of samples."""
    if samples.stage:
        return forward_rest(stages[samples.stage :], samples.inputs[0])
    named = {"lengths": samples.lengths} if samples.lengths else {}
    return forward_rest(stages[1:], stages[0].run(*samples.inputs, **named))


def constant_stages(module: nn.Module) -> list[Stage]:
    """Return a module's first stages that never change: without anything it holds."""
    vouched = type(module) is not nn.Sequential
    stages = stages_of(module)
    return list(takewhile(lambda stage: _constant(stage, vouched), stages))


@torch.no_grad()
def apply_constant_stages(ahead: Sequence[Stage], samples: Samples) -> Samples:
    """Return samples as they come out of a model's `constant_stages`.

    They stay as they are where that would take more room.
    """
    if not ahead or not len(samples.labels):
        return samples
    found = forward_stages(ahead, samples)
    before = sum(x.numel() for x in samples.inputs)
    if not _by_sample(found, samples) or found.numel() > before:
        return samples
    return Samples((found,), {}, samples.labels, len(ahead))


@torch.no_grad()
def frozen_features(
    stages: Sequence[Stage], samples: Samples, size: int
) -> Tensor | None:
    """Return what stages give of all samples, (n, ...), taken `size` at a time.

    None if that would take more than `MAX_CACHE_BYTES`, or it is no tensor.
    """
    kept: Tensor | None = None
    done, n = 0, len(samples.labels)
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
    """Return whether what stages gave has one entry for each sample."""
    return isinstance(found, Tensor) and found.shape[:1] == samples.labels.shape


def _constant(stage: Stage, vouched: bool) -> bool:
    parts = [part for top in stage.modules for part in top.modules()]
    held = [t for part in parts for t in (*part.parameters(), *part.buffers())]
    return not held and not any(
        _is_stochastic_or_batch_dependent(part, vouched) for part in parts
    )


def _is_stochastic_or_batch_dependent(part: nn.Module, vouched: bool) -> bool:
    """Return whether a module's output, or what it keeps, may change within a phase.

    What a module does that is not torch's, or has hooks or buffers, is known only if
    its owner, who tells the stages, vouches for it.
    """
    foreign = not type(part).__module__.startswith("torch.")
    hooks = part._forward_hooks or part._forward_pre_hooks
    own = next(part.buffers(recurse=False), None)
    if not vouched and (foreign or hooks or own is not None):
        return True
    if isinstance(part, nn.modules.dropout._DropoutNd):
        return part.p > 0
    # Attention and recurrent layers drop without a layer for it.
    dropout = getattr(part, "dropout", 0.0)
    drops = isinstance(dropout, float) and dropout > 0
    trained = any(p.requires_grad for p in part.parameters(recurse=False))
    return trained or drops or isinstance(part, STOCHASTIC_LAYERS) or _mixes(part)


def _mixes(part: nn.Module) -> bool:
    """Return whether a layer of torch's may work along the axis of samples."""
    if getattr(part, "batch_first", True) is False or getattr(part, "start_dim", 1) < 1:
        return True
    dim = getattr(part, "dim", -1)  # of a softmax, say; None lets torch guess
    return dim is None or (isinstance(dim, int) and (dim == 0 or dim < -1))
