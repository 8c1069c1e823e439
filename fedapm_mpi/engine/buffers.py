"""A module's buffers as flat vectors; a complex number is two real ones."""

import torch
from torch import Tensor, nn

Layout = dict[str, tuple[str, tuple[int, ...]]]
"""Kind (floating, complex, or integer) and shape of each buffer."""


def buffer_layout(module: nn.Module) -> Layout:
    """Return the layout of a module's buffers."""
    return {name: kind_and_shape(b) for name, b in module.named_buffers()}


def kept_buffers(module: nn.Module, known: Layout) -> list[tuple[str, Tensor]]:
    """Return a module's buffers that belong to a client's state.

    A non-persistent one that its forward has registered since is a cache, and does not.
    """
    named = list(module.named_buffers())
    if all(name in known for name, _ in named):
        return named
    caches = {
        f"{path}.{key}".removeprefix(".")
        for path, part in module.named_modules()
        for key in part._non_persistent_buffers_set
    }
    return [(name, b) for name, b in named if name in known or name not in caches]


def changed_buffer(before: Layout, after: Layout) -> str:
    """Return a sentence on the first buffer that a pass changed in shape or kind."""
    name = next(n for n in [*before, *after] if before.get(n) != after.get(n))
    then, now = (
        " ".join(map(str, layout[name])) if name in layout else "absent"
        for layout in (before, after)
    )
    return (
        f"the buffer {name!r} changes in the model's forward (before: {then}, after: "
        f"{now}); as each client keeps its own, register it in the model's __init__, "
        "of one kind and shape for good"
    )


def kind_and_shape(buffer: Tensor) -> tuple[str, tuple[int, ...]]:
    """Return an entry of a layout."""
    kind = "integer"
    if is_float(buffer):
        kind = "complex" if buffer.is_complex() else "floating"
    return kind, tuple(buffer.shape)


def is_float(tensor: Tensor) -> bool:
    """Return whether a tensor is floating or complex."""
    return tensor.is_floating_point() or tensor.is_complex()


def count_reals(tensor: Tensor) -> int:
    """Return the number of real numbers in a tensor; a complex one counts as two."""
    return tensor.numel() * (2 if tensor.is_complex() else 1)


def flatten(buffers: list[Tensor], dtype: torch.dtype) -> Tensor:
    """Return all buffers' numbers in one vector."""
    flat = [_as_real(b.detach()).reshape(-1).to(dtype) for b in buffers]
    return torch.cat(flat) if flat else torch.zeros(0, dtype=dtype)


@torch.no_grad()
def scatter(buffers: list[Tensor], flat: Tensor) -> None:
    """Set buffers from what `flatten` returned."""
    start = 0
    for buffer in buffers:
        stop = start + count_reals(buffer)
        values = flat[start:stop]
        if buffer.is_complex():  # a pair must begin at an even place of its storage
            values = torch.view_as_complex(values.clone().view(-1, 2))
        buffer.copy_(values.view(buffer.shape))
        start = stop


def _as_real(tensor: Tensor) -> Tensor:
    if not tensor.is_complex():
        return tensor
    return torch.view_as_real(tensor.resolve_conj())
