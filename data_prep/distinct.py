"""The distinct values of an array, without sorting where they are few."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_RANGE = 2**16
"""Codes below it, or below the number of entries, are counted in place of sorted."""


def distinct(codes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the distinct values of integers, sorted, and the place of each among them.

    As `numpy.unique` does with ``return_inverse``, with 8 bytes an entry in place of
    40. Codes from 0 without gaps are their own places, and returned as they are.

    Parameters
    ----------
    codes
        ``(n,)``.
    """
    size = max(MIN_RANGE, len(codes))
    if not len(codes) or codes.min() < 0 or codes.max() >= size:
        found, places = np.unique(codes, return_inverse=True)
        return found, places.reshape(-1)
    present = np.bincount(codes) > 0
    found = np.flatnonzero(present).astype(codes.dtype)
    if present.all():
        return found, codes
    return found, (np.cumsum(present) - 1)[codes]
