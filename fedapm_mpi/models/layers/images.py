"""Layouts of images."""

import torch
from torch import Tensor

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models.base import InputSpec, describe

ImageSize = tuple[int, int, int]


def image_layout(model: str, spec: InputSpec) -> tuple[ImageSize, bool]:
    """Return the size and the layout of an image input.

    Two axes are height and width of one channel. Of three axes, the channels are the
    smaller one of the first and the last, and the first if these are equal.

    Returns
    -------
    tuple
        The size (channels, height, width), and whether the channels come last.

    Raises
    ------
    ConfigError
        If the input has neither two nor three axes, or is ragged.
    """
    shape = spec.shape
    if len(shape) not in (2, 3) or spec.ragged:
        kind = "ragged shape" if spec.ragged else "shape"
        msg = (
            f"model {model!r}: input {spec.name!r} has the {kind} {shape}; needed is "
            "an image of fixed size: (H, W), (C, H, W) or (H, W, C)"
        )
        raise ConfigError(msg)
    if len(shape) == 2:
        return (1, *shape), False
    first, middle, last = shape
    if last < first:
        return (last, first, middle), True
    return (first, middle, last), False


def one_image(model: str, inputs: tuple[InputSpec, ...]) -> tuple[ImageSize, bool]:
    """Return the layout of a model's one input; see `image_layout`.

    Raises
    ------
    ConfigError
        If there are several inputs, or the one is no image.
    """
    if len(inputs) != 1:
        msg = f"model {model!r}: needed is one image, not {describe(inputs)}"
        raise ConfigError(msg)
    return image_layout(model, inputs[0])


def to_channels_last(x: Tensor, channels_last: bool) -> Tensor:
    """Return ``(n, H, W, C)`` of images in any layout; see `to_channels_first`."""
    if x.ndim == 3:
        return x.unsqueeze(-1)
    if channels_last:
        return x
    # Torch derives the memory order from strides. `contiguous` keeps those of a single
    # channel, so this has to be a copy.
    return x.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)


def to_channels_first(x: Tensor) -> Tensor:
    """Return ``(n, C, H, W)`` of ``(n, H, W, C)``, channels innermost in memory.

    On a CPU, convolutions and poolings of this memory order take half the time of
    the other. On a GPU it is the other way round, as long as kernels must be
    deterministic and in single precision.
    """
    found = x.permute(0, 3, 1, 2)
    return found.contiguous() if found.is_cuda else found
