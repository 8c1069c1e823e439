"""Which differences seeds and clients separate: a paired bootstrap over both.

A value of one method on one client under one seed is compared with the other method's
on the same client under the same seed. Seeds and clients are drawn with replacement,
independently of each other and for both methods alike, so that an interval holds for
other seeds and for other clients of the same kind.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
"""(seeds, clients)."""

Statistic = Callable[[Values], NDArray[np.float64]]
"""Returns a number for each of many tables (draws, seeds, clients)."""

DRAWS = 2000
COVERAGE = 0.95


class Difference(NamedTuple):
    """A difference of two methods."""

    value: float
    low: float
    high: float

    @property
    def level(self) -> bool:
        """Return whether the interval contains zero: nothing is separated."""
        return self.low <= 0 <= self.high


def mean(values: Values) -> NDArray[np.float64]:
    """Return the mean over seeds and clients, those without a value left out."""
    found: NDArray[np.float64] = np.nanmean(values, axis=(-2, -1))
    return found


def worst_decile(values: Values) -> NDArray[np.float64]:
    """Return the mean over seeds of the mean of the tenth of clients that is worst."""
    ordered = np.sort(values, axis=-1)  # those without a value are last
    known = (~np.isnan(values)).sum(-1, keepdims=True)
    tenth = np.arange(values.shape[-1]) < np.ceil(known / 10)
    by_seed = np.nanmean(np.where(tenth, ordered, np.nan), axis=-1)
    found: NDArray[np.float64] = by_seed.mean(-1)
    return found


def difference(
    ours: Values, other: Values, statistic: Statistic = mean, *, seed: int = 0
) -> Difference:
    """Return the difference of a statistic, with its interval of 95 %.

    Parameters
    ----------
    ours, other
        The values of both methods, each (seeds, clients), in the same order; NaN for a
        client where a value is not defined.
    statistic
        What is compared.
    seed
        Seed of the draws.
    """
    if ours.shape != other.shape:
        msg = f"the methods have {ours.shape} and {other.shape} seeds and clients"
        raise ValueError(msg)
    seeds, clients = ours.shape
    rng = np.random.default_rng(seed)
    s = rng.integers(seeds, size=(DRAWS, seeds))[:, :, None]
    c = rng.integers(clients, size=(DRAWS, clients))[:, None, :]
    drawn = statistic(ours[s, c]) - statistic(other[s, c])
    tail = 100 * (1 - COVERAGE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    value = statistic(ours) - statistic(other)
    return Difference(float(value), float(low), float(high))


def spread(seeds: NDArray[Any], replicates: NDArray[Any]) -> float:
    """Return the standard deviation of a run, over seeds and over rounding.

    The spread over seeds has that of rounding in it, but a few seeds may show less than
    replicates of one seed do: the larger of the two is taken.

    Parameters
    ----------
    seeds
        One value for each seed, replicate 0.
    replicates
        The values of one seed, replicate 0 among them.
    """
    found = [np.std(one, ddof=1) for one in (seeds, replicates) if len(one) > 1]
    return float(max(found, default=np.nan))
