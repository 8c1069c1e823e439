r"""What mattered: the share of the trials' differences that goes with each dimension.

For a dimension with k groups of its values (choices, or thirds of a range) and the n
trials in which it is active,

.. math:: \epsilon^2 = 1 - \frac{SS_{within} / (n - k)}{SS_{total} / (n - 1)},

the analysis of variance's share of explained variance, corrected for what k groups of
noise would explain (Kelley, PNAS 21(9), 1935). Below 0 it is 0. It looks at the first
rung, which all trials have reached; shares of different dimensions may overlap.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.studies.tune.record import Trial
from fedapm_mpi.studies.tune.space import Dimension, Range, Space

Floats = NDArray[np.float64]

THIRDS = 3
"""Groups that the numbers of a range make."""

FEWEST = 3
"""Trials for each group, on average, below which a share would be noise."""


class Importance(NamedTuple):
    """How much a dimension mattered."""

    name: str
    share: float | None
    """Of the variance between trials, 0 to 1; `None` if there are too few trials."""

    trials: int
    """Trials in which it was active and that have a value."""

    best: str
    """Choice, or third of the range, with the best mean."""


def importances(
    space: Space, trials: Sequence[Trial], *, higher_is_better: bool
) -> list[Importance]:
    """Return the importance of each free dimension, the largest first.

    Parameters
    ----------
    space
        The space.
    trials
        All trials.
    higher_is_better
        Which way the metric is better.
    """
    found = []
    for one in space.free:
        known = [t for t in trials if t.results and one.name in t.params]
        values = np.array([t.results[0].value for t in known])
        groups = _groups(one, known)
        share = explained(values, [group for group, _ in groups])
        found.append(
            Importance(
                one.name, share, len(known), _best(groups, values, higher_is_better)
            )
        )
    return sorted(found, key=lambda i: 1.0 if i.share is None else -i.share)


def explained(values: Floats, groups: Sequence[int]) -> float | None:
    """Return epsilon squared of values in groups; `None` if it is not defined.

    Parameters
    ----------
    values : (n,)
        The values.
    groups : (n,)
        Number of the group of each.
    """
    n, kinds = len(values), sorted(set(groups))
    if len(kinds) < 2 or n < FEWEST * len(kinds):
        return None
    total = float(((values - values.mean()) ** 2).sum())
    if total == 0:
        return None
    own = np.asarray(groups)
    within = sum(
        float(((part - part.mean()) ** 2).sum())
        for part in (values[own == kind] for kind in kinds)
    )
    return max(0.0, 1 - (within / (n - len(kinds))) / (total / (n - 1)))


def _groups(dimension: Dimension, trials: Sequence[Trial]) -> list[tuple[int, str]]:
    """Return number and name of the group of each trial's value."""
    if not isinstance(dimension.values, Range):
        labels = dimension.labels
        chosen = [trial.params[dimension.name] for trial in trials]
        return [(labels.index(label), label) for label in chosen]
    range_ = dimension.values
    edges = [range_.at(k / THIRDS) for k in range(THIRDS + 1)]
    numbers = [float(trial.params[dimension.name]) for trial in trials]
    thirds = [min(int(np.searchsorted(edges, x, "right")), THIRDS) - 1 for x in numbers]
    return [(k, f"{edges[k]:.3g} to {edges[k + 1]:.3g}") for k in thirds]


def _best(
    groups: Sequence[tuple[int, str]],
    values: Floats,
    higher: bool,
) -> str:
    """Return the name of the group with the best mean."""
    means = {}
    for name in dict.fromkeys(name for _, name in groups):
        own = [v for (_, other), v in zip(groups, values, strict=True) if other == name]
        means[name] = float(np.mean(own))
    if not means:
        return ""
    return (max if higher else min)(means, key=lambda name: means[name])
