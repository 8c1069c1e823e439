"""Least squares with few nonnegative unknowns; pure functions."""

from collections.abc import Mapping
from itertools import combinations
from math import log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.studies.scaling.scipy_import import scipy_module

Floats = NDArray[np.float64]

COLLINEARITY_SINE = 0.05
"""Sine of the angle to an earlier term, below which a term is not identifiable."""

RELATIVE_FLOOR = 0.02
"""A time below this share of the largest has the weight of this share, so that the
smallest, which are mostly noise, do not dominate."""

EXACT_FIT = 1e-3
"""Relative error below which a fit counts as exact."""

MAX_NONZERO_TERMS = 4
"""Maximum number of nonzero terms of a sum."""


class LinearFit(NamedTuple):
    """Coefficients of the terms of a sum."""

    coefficients: dict[str, float]
    """By term, seconds for one; 0 where the term does not lower the criterion."""

    dropped: list[str]
    """Terms that are not identifiable from the measurements."""

    def at(self, terms: Mapping[str, float]) -> float:
        """Return the sum for the terms' values."""
        return sum(value * terms[name] for name, value in self.coefficients.items())


def fit(terms: Mapping[str, Floats], target: Floats) -> LinearFit:
    """Fit ``target = sum of coefficient * term`` with nonnegative coefficients.

    Minimizes relative errors, not absolute ones. Drops a term that is zero throughout,
    or nearly a multiple of an earlier one: earlier terms have precedence.

    Parameters
    ----------
    terms : each (n,)
        Values of each term in every measurement.
    target : (n,)
        The measurements, in seconds.

    Raises
    ------
    ConfigError
        If SciPy is not installed.
    """
    weights = 1 / np.maximum(target, max(RELATIVE_FLOOR * float(target.max()), 1e-12))
    kept, dropped = _identifiable({name: v * weights for name, v in terms.items()})
    if not kept:
        return LinearFit({}, dropped)
    matrix = np.stack(list(kept.values()), axis=1)
    found = nonnegative(matrix, target * weights)
    return LinearFit(dict(zip(kept, found.tolist(), strict=True)), dropped)


def nonnegative(matrix: Floats, target: Floats) -> Floats:
    """Return the sparse x >= 0 that minimizes ``|matrix x - target|`` plus a penalty.

    Tries every choice of up to `MAX_NONZERO_TERMS` unknowns by nonnegative least
    squares, and takes the one with the smallest Bayesian information criterion,
    n ln(mean squared error) + (unknowns) ln n: a term that may only explain noise must
    not count at sizes that were not measured. Of equal choices the first, with fewer
    unknowns, is taken.

    Parameters
    ----------
    matrix : (n, k)
    target : (n,)

    Returns
    -------
    (k,)

    Raises
    ------
    ConfigError
        If SciPy is not installed.
    """
    nnls = scipy_module("scipy.optimize").nnls
    k = matrix.shape[1]
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1
    scaled = matrix / scale
    best, smallest = np.zeros(k), _criterion(target, 0)
    for count in range(1, min(k, MAX_NONZERO_TERMS) + 1):
        for chosen in combinations(range(k), count):
            columns = list(chosen)
            part, _ = nnls(scaled[:, columns], target)
            gap = scaled[:, columns] @ part - target
            criterion = _criterion(gap, count)
            if criterion < smallest - 1e-9:
                smallest = criterion
                best = np.zeros(k)
                best[columns] = part
    return np.asarray(best / scale)


def _criterion(gap: Floats, unknowns: int) -> float:
    n = len(gap)
    return n * log(float(gap @ gap) / n + EXACT_FIT**2) + unknowns * log(n)


def _identifiable(columns: Mapping[str, Floats]) -> tuple[dict[str, Floats], list[str]]:
    """Return the columns that differ in direction from each before, and the others."""
    directions: dict[str, Floats] = {}
    dropped = []
    for name, column in columns.items():
        length = float(np.linalg.norm(column))
        unit = column / (length or 1.0)
        if length == 0 or any(
            _sine(unit, other) < COLLINEARITY_SINE for other in directions.values()
        ):
            dropped.append(name)
        else:
            directions[name] = unit
    return {name: columns[name] for name in directions}, dropped


def _sine(one: Floats, other: Floats) -> float:
    """Return the sine of the angle between two vectors of length 1."""
    return float(np.linalg.norm(one - (one @ other) * other))
