"""Label skew by Dirichlet proportions for each client, with given sizes."""

import numpy as np
from numpy.typing import NDArray

from data_prep.partitioners.base import (
    Parts,
    Pool,
    check_num_clients,
    check_positive,
    cut_by_shares,
    gather,
    partitioners,
    repair,
    shuffled_by_label,
)
from data_prep.partitioners.base import units as units_of
from fedapm_mpi.errors import ConfigError

MIN_WEIGHT = 1e-9
"""Minimum weight of a class for a client, so that every class can be given away."""

SIZE_TOLERANCE = 1e-3
"""Relative error of the fitted sizes that is left to rounding."""

MAX_SWEEPS = 1000
"""Maximum number of scalings of rows and columns."""


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
    1_C)`), and a size, equal for all or log-normal. Each sample has one owner, so these
    are met approximately: by the cells closest to :math:`s_i q_{ic}` in
    Kullback-Leibler divergence that add up to the clients' sizes :math:`s_i` and the
    classes' sizes, rounded.

    Parameters
    ----------
    pool
        The samples.
    num_clients
        Number of clients.
    rng
        Source of mixes, sizes and order.
    beta
        Concentration: the smaller, the fewer classes a client has.
    sigma
        Standard deviation of the logarithm of sizes; 0 for equal sizes.
    min_samples
        Minimum number of samples of a client; the largest give up the missing ones.

    Raises
    ------
    ConfigError
        If `beta` is not positive, `sigma` is negative, or there are too few samples.

    References
    ----------
    arXiv:1909.06335 (mixes), arXiv:2111.04263 (log-normal sizes).
    """
    check_positive("beta", beta)
    if not 0 <= sigma < np.inf:
        msg = f"partitioner.sigma must be 0 or positive, and finite, got {sigma}"
        raise ConfigError(msg)
    least = max(1, min_samples)
    made = units_of(pool)
    m = check_num_clients(num_clients, len(pool.labels), least)
    present, inverse = np.unique(made.labels, return_inverse=True)
    masses = np.bincount(inverse, weights=made.sizes).astype(np.float64)
    mixes = rng.dirichlet(beta * len(present) * masses / masses.sum(), m)
    sizes = np.exp(sigma * rng.standard_normal(m))
    cells = fit(mixes, masses, sizes * (masses.sum() / sizes.sum()))
    by_label = shuffled_by_label(inverse, rng)
    owner = np.empty(len(inverse), np.int64)
    for members, shares in zip(by_label, cells.T, strict=True):
        owner[members] = cut_by_shares(made.sizes[members], shares)
    moved = repair(owner, made.sizes, m, least, rng)
    return gather(owner, made, m, moved)


def fit(
    mixes: NDArray[np.float64],
    columns: NDArray[np.float64],
    rows: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Scale rows and columns in turn until they have the given sums.

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
    cells = np.maximum(mixes, MIN_WEIGHT)
    for _ in range(MAX_SWEEPS):
        cells *= (rows / cells.sum(axis=1))[:, None]
        sums = cells.sum(axis=0)
        cells *= columns / sums
        if np.abs(sums / columns - 1).max() < SIZE_TOLERANCE:
            break
    return cells
