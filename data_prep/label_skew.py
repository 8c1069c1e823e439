"""Label skew: distances of clients' label distributions from the pooled one."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Heterogeneity(NamedTuple):
    """Means over clients that have samples; 0, 0 and the number of classes if IID."""

    jensen_shannon: float
    """Jensen-Shannon distance to the pooled labels: root of the divergence in bits,
    0 to 1."""

    total_variation: float
    """Total-variation distance to the pooled labels: half the sum of differences,
    0 to 1."""

    effective_classes: float
    """exp(entropy) of a client's labels: the number of equal classes with it."""


def heterogeneity(counts: NDArray[np.int64]) -> Heterogeneity:
    """Measure label skew.

    Parameters
    ----------
    counts
        ``(m, classes)`` samples of each client and label.
    """
    counts = counts[counts.sum(axis=1) > 0]
    if not len(counts):
        return Heterogeneity(0.0, 0.0, 0.0)
    shares = counts / counts.sum(axis=1, keepdims=True)
    pooled = counts.sum(axis=0) / counts.sum()
    middle = (shares + pooled) / 2
    # The sum of rounded terms may fall below 0 by some 1e-16.
    divergence = np.maximum(
        _entropy(middle) - (_entropy(shares) + _entropy(pooled)) / 2, 0.0
    )
    return Heterogeneity(
        jensen_shannon=float(np.sqrt(divergence / np.log(2)).mean()),
        total_variation=float((np.abs(shares - pooled).sum(axis=1) / 2).mean()),
        effective_classes=float(np.exp(_entropy(shares)).mean()),
    )


def _entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the entropy in nats along the last axis."""
    terms: NDArray[np.float64] = -p * np.log(p, where=p > 0, out=np.zeros_like(p))
    return np.asarray(terms.sum(axis=-1))
