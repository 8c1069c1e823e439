"""Means of few repetitions, and bands in which the true ones lie; pure functions."""

from collections.abc import Sequence
from math import atan, cos, pi, sin, sqrt
from typing import NamedTuple

CONFIDENCE = 0.95
"""Probability with which a band holds the true value."""


class Band(NamedTuple):
    """A mean, and where the true one lies by Student's t; NaN for one value alone."""

    mean: float
    low: float
    high: float


def band(values: Sequence[float], level: float = CONFIDENCE) -> Band:
    """Return the mean of independent values and its confidence band."""
    n = len(values)
    mean = sum(values) / n if n else float("nan")
    if n < 2:
        return Band(mean, float("nan"), float("nan"))
    spread = sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile(n - 1, level) * spread / sqrt(n)
    return Band(mean, mean - half, mean + half)


def t_quantile(freedom: int, level: float = CONFIDENCE) -> float:
    """Return t such that Student's variable lies in (-t, t) with a probability."""
    low, high = 0.0, 1.0
    while t_within(high, freedom) < level:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        if t_within(middle, freedom) < level:
            low = middle
        else:
            high = middle
    return high


def t_within(t: float, freedom: int) -> float:
    """Return the probability of (-t, t) for a whole number of degrees of freedom.

    The finite series of Abramowitz and Stegun, Handbook of Mathematical Functions,
    26.7.3 and 26.7.4.
    """
    angle = atan(t / sqrt(freedom))
    square = cos(angle) ** 2
    odd = freedom % 2
    term = cos(angle) if odd else 1.0
    total, k = 0.0, 2 if odd else 1
    while k <= freedom - 1 if odd else k < freedom:
        total += term
        term *= square * k / (k + 1)
        k += 2
    if odd:
        return 2 / pi * (angle + sin(angle) * total)
    return sin(angle) * total
