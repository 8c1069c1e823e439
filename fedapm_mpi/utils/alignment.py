"""Where in memory arrays begin: the bits of a matrix product may depend on it."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
"""Bytes to whose multiples torch aligns what it allocates."""


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return a new array that torch can use as it lies."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    return np.ndarray(shape, dtype, memory, -_address(memory) % ALIGNMENT)


def usable(values: NDArray[Any]) -> bool:
    """Return whether torch can use an array as it lies."""
    aligned = _address(values) % ALIGNMENT == 0
    return bool(aligned and values.flags.c_contiguous and values.flags.writeable)


def _address(values: NDArray[Any]) -> int:
    # `ctypes.data` says the same, after importing and making more than it needs.
    return int(values.__array_interface__["data"][0])
