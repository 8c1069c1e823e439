"""Memory alignment of arrays, on which the bits of a matrix product may depend."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
"""Alignment, in bytes, of the memory that torch allocates."""


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return a new array that torch can use without a copy."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    return np.ndarray(shape, dtype, memory, -_address(memory) % ALIGNMENT)


def usable(values: NDArray[Any]) -> bool:
    """Return whether torch can use an array without a copy."""
    aligned = _address(values) % ALIGNMENT == 0
    return bool(aligned and values.flags.c_contiguous and values.flags.writeable)


def _address(values: NDArray[Any]) -> int:
    # `ctypes.data` gives the same, but imports and creates more.
    return int(values.__array_interface__["data"][0])
