"""Least squares with few nonnegative unknowns; pure functions."""

from collections.abc import Mapping
from itertools import combinations
from math import log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COLLINEAR = 0.05
"""Sine of the angle to a term before it, below which a term cannot be told."""

RELATIVE_FLOOR = 0.02
"""A time below this share of the largest counts as if it were this share, so that the
smallest, which are mostly noise, do not count most."""


EXACT_FIT = 1e-3
"""Relative error below which a fit is not told from an exact one."""


MAX_NONZERO_TERMS = 4
"""Terms of a sum at most that are not zero."""


class LinearFit(NamedTuple):
    """Coefficients of the terms of a sum."""

    coefficients: dict[str, float]
    """Of each term that could be told; 0 where it was not seen."""

    dropped: list[str]
    """Terms that the measurements cannot tell from those before them."""

    def at(self, terms: Mapping[str, float]) -> float:
        """Return the sum for the terms' values."""
        return sum(value * terms[name] for name, value in self.coefficients.items())


def fit(terms: Mapping[str, Floats], target: Floats) -> LinearFit:
    """Fit ``target = sum of coefficient * term`` with nonnegative coefficients.

    Relative errors are made small, not absolute ones. A term that is zero throughout,
    or nearly a multiple of one before it, is dropped: earlier terms are preferred.

    Parameters
    ----------
    terms : each (n,)
        Values of each term in every measurement.
    target : (n,)
        What was measured.
    """
    weights = 1 / np.maximum(target, max(RELATIVE_FLOOR * float(target.max()), 1e-12))
    kept, dropped = _identifiable({name: v * weights for name, v in terms.items()})
    names = list(kept)
    matrix = np.stack([kept[name] for name in names], axis=1) if names else None
    if matrix is None:
        return LinearFit({}, dropped)
    found = nonnegative(matrix, target * weights)
    return LinearFit(dict(zip(names, found.tolist(), strict=True)), dropped)


def nonnegative(matrix: Floats, target: Floats) -> Floats:
    """Return the x >= 0 for which ``matrix x`` is `target`, but for noise, (k,).

    Every choice of unknowns that are not zero is tried. Of those whose least squares
    solution is nowhere negative the one with the least Bayesian information criterion
    is taken, n ln(mean squared error) + (unknowns) ln n: what noise alone may account
    for is not foretold at sizes that were not measured.
    """
    k = matrix.shape[1]
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1
    scaled = matrix / scale
    best, least = np.zeros(k), _criterion(target, 0)
    for count in range(1, min(k, MAX_NONZERO_TERMS) + 1):
        for chosen in combinations(range(k), count):
            columns = list(chosen)
            part, *_ = np.linalg.lstsq(scaled[:, columns], target, rcond=None)
            if (part < 0).any():
                continue
            gap = scaled[:, columns] @ part - target
            worth = _criterion(gap, count)
            if worth < least - 1e-9:
                least = worth
                best = np.zeros(k)
                best[columns] = part
    return np.asarray(best / scale)


def _criterion(gap: Floats, unknowns: int) -> float:
    n = len(gap)
    return n * log(float(gap @ gap) / n + EXACT_FIT**2) + unknowns * log(n)


def _identifiable(columns: Mapping[str, Floats]) -> tuple[dict[str, Floats], list[str]]:
    """Return the columns that differ in direction from each before, and the others."""
    kept: dict[str, Floats] = {}
    dropped = []
    for name, column in columns.items():
        length = float(np.linalg.norm(column))
        unit = column / (length or 1.0)
        if length == 0 or any(
            _sine(unit, other) < COLLINEAR for other in kept.values()
        ):
            dropped.append(name)
        else:
            kept[name] = unit
    return {name: columns[name] for name in kept}, dropped


def _sine(one: Floats, other: Floats) -> float:
    """Return the sine of the angle between two vectors of length 1."""
    return float(np.linalg.norm(one - (one @ other) * other))
