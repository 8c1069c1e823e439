"""Lines through the logarithm of a gap, against time or against its logarithm.

`convergence` uses them to judge how fast a metric approaches its limit.
"""

from math import inf, log
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MAX_SLOPE = 10.0
"""Largest exponent: a steeper power law looks like a linear rate for all of a run."""

MIN_POINTS = 8
"""Measured rounds below which nothing is fitted."""

EXACT_FIT_RMS = 1e-9
"""Misfit below which fits are equally exact."""

GRID, ZOOMS = 33, 8
"""Points of each searched axis, and how often the search closes in on the best."""


class Fit(NamedTuple):
    """A line through the logarithm of the gaps, against t or against log(t + s)."""

    slope: float
    misfits: Array
    sum_xx: float
    """Squared deviations of what the line runs against; with misfits, its error."""

    log_gaps: Array
    shift: float
    """s, in rounds from the first that is fitted; infinite for a line in t."""

    depth: float = 0.0
    """Distance from the lowest value to the limit, where that is searched."""

    at_edge: bool = False
    """Whether the limit is where its search began, so the data doesn't show it."""

    @property
    def rms(self) -> float:
        """Root mean square of the misfits."""
        return float(np.sqrt(np.mean(self.misfits**2)))

    @property
    def error(self) -> float:
        """Standard error of the slope over the slope."""
        if self.at_edge:
            return inf
        return (self.rms + EXACT_FIT_RMS) / max(
            float(-self.slope * self.sum_xx**0.5), 1e-300
        )

    @property
    def fall(self) -> float:
        """By how much the fitted logarithm falls."""
        return float(np.ptp(self.log_gaps - self.misfits)) if self.slope < 0 else 0.0

    @property
    def deviance(self) -> float:
        """Minus twice the mean log-likelihood of the values, up to a constant."""
        return log(self.rms**2 + EXACT_FIT_RMS**2) + 2 * float(self.log_gaps.mean())

    @property
    def independent(self) -> float:
        """Number of points that would say as much if misfits were independent."""
        a, n = self.misfits - self.misfits.mean(), len(self.misfits)
        memory = min(max(float(a[1:] @ a[:-1] / max(a @ a, 1e-300)), 0.0), 1.0)
        return max(n * (1 - memory) / (1 + memory), 3.0)


class Pair(NamedTuple):
    """Both candidates, fitted to the same rounds."""

    straight: Fit
    bent: Fit
    bic_difference: float
    """Of the straight line minus the bent one, which has one parameter more."""

    @property
    def better(self) -> Fit:
        """The one whose BIC is lower."""
        return self.straight if self.bic_difference < 0 else self.bent


def fit_line(x: Array, y: Array, steepest: float = inf, shift: float = inf) -> Fit:
    """Return the line of least squares whose slope is within ``[-steepest, 0]``."""
    a, b = x - x.mean(), y - y.mean()
    slope = min(max(float(a @ b / (a @ a)), -steepest), 0.0)
    return Fit(slope, b - slope * a, float(a @ a), y, shift)


def start_of_floor(t: Array, gap: Array) -> int:
    """Return the index from which the gap is spoilt by a floor, or its length.

    That is a level, less than a tenth of what came before, on which later rounds show
    no trend. What is less than ten times above it counts as spoilt by it.
    """
    at = np.flatnonzero(gap > 0)
    n = len(at)
    if n < MIN_POINTS:
        return len(gap)
    y = np.log(gap[at])
    below = y <= np.median(y[-max(5, n // 20) :]) + log(10)
    share = np.cumsum(below[::-1])[::-1] / np.arange(n, 0, -1)
    k = int(np.argmax(below & (share >= 0.9)))  # 0 if there is none
    if k < 3 or n - k < 10:
        return len(gap)
    before, rest = at[max(0, 2 * k - n) : k], slice((k + n) // 2, n)
    falling = fit_line(t[before], np.log(gap[before]))
    floating = fit_line(t[at[rest]], y[rest])
    scatter = floating.rms * (12 / len(y[rest])) ** 0.5
    flat = floating.fall <= 3 * scatter + 0.01
    return int(at[k]) if flat and floating.slope >= falling.slope / 4 else len(gap)


def fit_pair(t: Array, v: Array, limit_known: bool) -> Pair:
    """Fit both candidates; `v` holds gaps if the limit is known, else values."""
    straight = search(t, v, bends=False, limit_known=limit_known)
    bent = search(t, v, bends=True, limit_known=limit_known)
    points = min(straight, bent, key=lambda fit: fit.deviance).independent
    difference = points * (straight.deviance - bent.deviance) - log(points)
    return Pair(straight, bent, difference)


def search(t: Array, v: Array, *, bends: bool, limit_known: bool) -> Fit:
    """Return the best line, against log(t + s) if it `bends`, else against t.

    Searches s and the distance from the lowest value to an unknown limit on a grid
    that closes in on the best; `v` holds gaps if the limit is known.
    """
    tau, rise = t - t[0], v if limit_known else v - v.min()
    steepest = MAX_SLOPE if bends else inf
    step, top = float(np.diff(t).min()), float(np.ptp(v))
    shifts = np.log([1e-3 * step, 100 * tau[-1]]) if bends else np.array([inf])
    depths = np.array([-inf])
    if not limit_known:
        depths = np.log(np.array([1e-5 * rise[rise > 0].min(), top]))
    for _ in range(ZOOMS if bends or not limit_known else 1):
        shifts, depths = _spread(shifts), _spread(depths)
        x = np.log(tau + np.exp(shifts)[:, None]) if bends else tau[None, :]
        y = np.log(rise + np.exp(depths)[:, None])
        a, b = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
        xx, xy = (a**2).sum(1), b @ a.T
        slope = np.clip(xy / xx, -steepest, 0)
        squares = (b**2).sum(1)[:, None] - 2 * slope * xy + slope**2 * xx
        deviance = np.log(np.maximum(squares / len(t), EXACT_FIT_RMS**2))
        deviance = deviance + 2 * y.mean(1)[:, None]
        i, j = np.unravel_index(int(deviance.argmin()), deviance.shape)
        best = float(depths[i]), float(shifts[j])
        shifts, depths = _around(shifts, int(j)), _around(depths, int(i))
    found = fit_line(x[j], y[i], steepest, float(np.exp(best[1])))
    if limit_known:
        return found
    depth = float(np.exp(best[0]))
    return found._replace(depth=depth, at_edge=depth > 0.99 * top)


def _spread(axis: Array) -> Array:
    return axis if len(axis) == 1 else np.linspace(axis[0], axis[-1], GRID)


def _around(axis: Array, k: int) -> Array:
    """Return the part of a searched axis that is near its best point."""
    return axis if len(axis) == 1 else axis[[max(k - 2, 0), min(k + 2, GRID - 1)]]
