"""Where in memory arrays begin: the bits of a matrix product may depend on it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
"""Bytes to whose multiples torch aligns what it allocates."""


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return a new array that torch can use as it lies."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    found: NDArray[Any] = memory[start : start + size].view(dtype).reshape(shape)
    return found


def usable(values: NDArray[Any]) -> bool:
    """Return whether torch can use an array as it lies."""
    aligned = values.ctypes.data % ALIGNMENT == 0
    return bool(aligned and values.flags.c_contiguous and values.flags.writeable)
