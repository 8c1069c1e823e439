"""Numbers for which a shard has no type of their own: bfloat16, and complex ones.

A shard holds plain numbers only. Of bfloat16 it has the bits, as integers; of complex
numbers the two parts, along one more axis.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BFLOAT16 = "bfloat16"
"""Name of the type that has the upper 16 bits of float32."""

LARGEST_BFLOAT16 = float.fromhex("0x1.fep127")
"""Largest finite number of that type."""

_NAN = np.uint16(0x7FC0)
_INFINITE = np.uint16(0x7F80)


def stored_type(dtype: str) -> "np.dtype[Any]":
    """Return the NumPy type of the stored values of a type of numbers."""
    return np.dtype(np.uint16 if dtype == BFLOAT16 else dtype)


def is_floating(dtype: str) -> bool:
    """Return whether a type of numbers has fractions."""
    return dtype == BFLOAT16 or np.dtype(dtype).kind == "f"


def largest(dtype: str) -> float:
    """Return the largest finite number of a type."""
    if dtype == BFLOAT16:
        return LARGEST_BFLOAT16
    kind = np.dtype(dtype)
    return float(np.finfo(kind).max if kind.kind == "f" else np.iinfo(kind).max)


def to_bfloat16(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Return the bits of numbers as bfloat16, rounded to nearest, ties to even.

    As in torch, float64 is rounded to float32 first, numbers beyond the range become
    infinite, and every NaN the same one.
    """
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(values, np.float32)
    bits = single.view(np.uint32)
    # Half of the last place that is kept, or just below where that place is even.
    half = ((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF)
    found = ((bits + half) >> np.uint32(16)).astype(np.uint16)
    found[np.isnan(single)] = _NAN
    return found.reshape(np.shape(values))


def from_bfloat16(bits: NDArray[Any]) -> NDArray[np.float32]:
    """Return the numbers of which these are the bits as bfloat16, exactly."""
    wide = np.ascontiguousarray(bits, np.uint16).astype(np.uint32) << np.uint32(16)
    return wide.view(np.float32).reshape(np.shape(bits))


def numbers(stored: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return stored values of a type as numbers that NumPy can compute with."""
    return from_bfloat16(stored) if dtype == BFLOAT16 else stored


def stored(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return numbers as the stored values of a type."""
    return to_bfloat16(values) if dtype == BFLOAT16 else values.astype(dtype)


def all_finite(stored: NDArray[Any], dtype: str) -> bool:
    """Return whether no stored value of a type is NaN or infinite."""
    if dtype == BFLOAT16:
        return bool(((stored & _INFINITE) != _INFINITE).all())
    return stored.dtype.kind != "f" or bool(np.isfinite(stored).all())


def pairs(values: NDArray[Any]) -> NDArray[Any]:
    """Return complex numbers, of any shape, as pairs ``(..., 2)`` of their parts."""
    kind = values.dtype.newbyteorder("=")
    plain = np.ascontiguousarray(values, kind)  # which gives a number an axis
    parts = plain.view(np.dtype(f"f{kind.itemsize // 2}"))
    return parts.reshape(*np.shape(values), 2)
