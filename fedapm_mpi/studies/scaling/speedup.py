"""Confidence bands, speed-up, efficiency and the serial fraction; pure functions."""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import NamedTuple

from fedapm_mpi.studies.scaling.scipy_import import scipy_module

Seconds = Mapping[int, Mapping[int, float]]
"""Seconds per round, by number of client ranks, then by repetition."""

CONFIDENCE_LEVEL = 0.95
"""Probability with which a band holds the true value."""


class Band(NamedTuple):
    """A mean and its confidence interval by Student's t; NaN bounds for one value."""

    mean: float
    low: float
    high: float


class Scaled(NamedTuple):
    """How one number of client ranks compares with the smallest of a study."""

    speed_up: Band
    """Ratio of the work per second on these ranks to that on one."""

    efficiency: Band
    """Speed-up over the number of client ranks."""

    serial: float | None
    """Karp and Flatt's serial fraction; only in a strong study."""


def band(values: Sequence[float], level: float = CONFIDENCE_LEVEL) -> Band:
    """Return the mean of independent values and its confidence band.

    Raises
    ------
    ConfigError
        If there are several values and SciPy is not installed.
    """
    n = len(values)
    mean = sum(values) / n if n else float("nan")
    if n < 2:
        return Band(mean, float("nan"), float("nan"))
    deviation = sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half_width = t_quantile(n - 1, level) * deviation / sqrt(n)
    return Band(mean, mean - half_width, mean + half_width)


def t_quantile(freedom: int, level: float = CONFIDENCE_LEVEL) -> float:
    """Return t such that Student's variable lies in (-t, t) with a probability.

    ``scipy.special.stdtrit`` is what ``scipy.stats.t.ppf`` calls; ``scipy.stats`` takes
    more than a second longer to import.
    """
    special = scipy_module("scipy.special")
    return float(special.stdtrit(freedom, 0.5 + level / 2))


def strong(seconds: Seconds) -> dict[int, Scaled]:
    """Compare ranks that share the same work, repetition by repetition.

    With T(p0) the seconds on the smallest number of client ranks, p0, the speed-up on p
    is p0 T(p0)/T(p) and the efficiency that over p. Points of a repetition run close to
    each other in time, so ratios are taken within it.
    """
    base = min(seconds)
    found = {}
    for p in sorted(seconds):
        gains = [base * ratio for ratio in _ratios(seconds, p)]
        serial = None
        if p > base and gains:
            mean = sum(gains) / len(gains)
            serial = karp_flatt(mean / base, p / base)
        speed = band(gains)
        found[p] = Scaled(speed, Band(*(value / p for value in speed)), serial)
    return found


def weak(seconds: Seconds) -> dict[int, Scaled]:
    """Compare ranks that each have the same work: the efficiency is T(p0)/T(p)."""
    found = {}
    for p in sorted(seconds):
        efficiency = band(_ratios(seconds, p))
        found[p] = Scaled(Band(*(value * p for value in efficiency)), efficiency, None)
    return found


def karp_flatt(speed_up: float, ranks: float) -> float:
    """Return the serial fraction that corresponds to a speed-up.

    (1/S - 1/p) / (1 - 1/p), Karp and Flatt, Measuring Parallel Processor Performance,
    Communications of the ACM 33 (1990). A fraction that grows with p is not serial
    work, but the cost of running on many ranks.
    """
    return (1 / speed_up - 1 / ranks) / (1 - 1 / ranks)


def _ratios(seconds: Seconds, p: int) -> list[float]:
    base = seconds[min(seconds)]
    return [base[k] / t for k, t in sorted(seconds[p].items()) if k in base]
