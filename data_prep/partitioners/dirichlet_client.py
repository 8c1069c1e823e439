"""Label skew by a Dirichlet draw for each client, of sizes that are asked for."""

import numpy as np
from numpy.typing import NDArray

from data_prep.partitioners.base import (
    Parts,
    Pool,
    deal,
    gather,
    needed,
    partitioners,
    positive,
    repair,
)
from data_prep.partitioners.base import units as units_of
from fedapm_mpi.errors import ConfigError

FLOOR = 1e-9
"""Least weight of a class for a client, so that every class finds takers."""

ENOUGH = 1e-3
"""Relative error of the fitted sizes that is left to rounding."""

MOST_SWEEPS = 1000


@partitioners.register("dirichlet-client")
def dirichlet_client(
    pool: Pool,
    num_clients: int | None,
    rng: np.random.Generator,
    *,
    beta: float = 0.5,
    sigma: float = 0.0,
    min_samples: int = 10,
) -> Parts:
    r"""Draw each client's mix of labels from Dir(beta), and sizes apart from it.

    Client i draws proportions :math:`q_i \sim \mathrm{Dir}(\beta C p)`, where p are
    the C classes' shares of the whole (with equal classes :math:`\mathrm{Dir}(\beta
    1_C)`), and a size, equal for all or log-normal. Samples being given once only,
    the mixes can't all be had: what is given are the cells closest to
    :math:`s_i q_{ic}` (in Kullback-Leibler divergence) that add up to the clients'
    sizes :math:`s_i` and to the classes' sizes, rounded.

    ``dirichlet`` draws for each class instead, which makes sizes as unequal as mixes.

    Parameters
    ----------
    pool
        The samples.
    num_clients
        Number of clients.
    rng
        Where mixes and sizes come from.
    beta
        Concentration: the smaller, the fewer classes a client has.
    sigma
        Standard deviation of the logarithm of clients' sizes; 0 makes them equal, but
        for rounding.
    min_samples
        Fewest samples of a client; the largest give what is missing.

    Raises
    ------
    ConfigError
        If `beta` is not positive, `sigma` is negative, or there are too few samples.

    References
    ----------
    Hsu, Qi and Brown (2019), arXiv:1909.06335 (mixes; there clients draw in turn until
    classes run out, so that the last get what is left); log-normal sizes as in Acar et
    al. (2021), arXiv:2111.04263.
    """
    positive("beta", beta)
    if not 0 <= sigma < np.inf:
        msg = f"partitioner.sigma must be 0 or positive, and finite, got {sigma}"
        raise ConfigError(msg)
    least = max(1, min_samples)
    made = units_of(pool)
    m = needed(num_clients, len(pool.labels), least)
    present, inverse = np.unique(made.labels, return_inverse=True)
    masses = np.bincount(inverse, weights=made.sizes).astype(np.float64)
    mixes = rng.dirichlet(beta * len(present) * masses / masses.sum(), m)
    sizes = np.exp(sigma * rng.standard_normal(m))
    cells = fit(mixes, masses, sizes * (masses.sum() / sizes.sum()))
    order = rng.permutation(len(inverse))
    order = order[np.argsort(inverse[order], kind="stable")]
    owner = np.empty(len(order), np.int64)
    bounds = np.cumsum(np.bincount(inverse))[:-1]
    for members, shares in zip(np.split(order, bounds), cells.T, strict=True):
        owner[members] = deal(made.sizes[members], shares)
    moved = repair(owner, made.sizes, m, least, rng)
    return gather(owner, made, m, moved)


def fit(
    mixes: NDArray[np.float64],
    columns: NDArray[np.float64],
    rows: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Scale rows and columns in turn until they add up to what is given.

    This converges to the positive matrix closest to the first in Kullback-Leibler
    divergence (Sinkhorn and Knopp, 1967).

    Parameters
    ----------
    mixes
        ``(m, C)`` non-negative; entries near 0 are raised a little.
    columns
        ``(C,)`` sums of the columns.
    rows
        ``(m,)`` sums of the rows, in all as much as the columns.
    """
    cells = np.maximum(mixes, FLOOR)
    for _ in range(MOST_SWEEPS):
        cells *= (rows / cells.sum(axis=1))[:, None]
        sums = cells.sum(axis=0)
        cells *= columns / sums
        if np.abs(sums / columns - 1).max() < ENOUGH:
            break
    return cells
