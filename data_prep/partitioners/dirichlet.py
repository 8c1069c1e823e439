"""Label skew by Dirichlet proportions for each class; clients are disjoint."""

import numpy as np

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
    units,
)


@partitioners.register("dirichlet")
def dirichlet(
    pool: Pool,
    num_clients: int | None,
    rng: np.random.Generator,
    *,
    beta: float = 0.5,
    min_samples: int = 10,
) -> Parts:
    """Split each class among clients in shares drawn from Dir(beta), disjointly.

    The class is shuffled and cut by its shares, so that each sample has exactly one
    owner (the FedAPM authors' code draws each client's share from the whole class, so
    that clients overlap). Clients below the minimum get samples of the largest ones;
    the manifest has the number that was moved.

    Parameters
    ----------
    pool
        The samples.
    num_clients
        Number of clients.
    rng
        Source of shares and order.
    beta
        Concentration: the smaller, the fewer classes a client has.
    min_samples
        Minimum number of samples of a client.

    Raises
    ------
    ConfigError
        If `beta` is not positive or there are too few samples.

    References
    ----------
    Hsu, Qi and Brown (2019), Measuring the effects of non-identical data distribution
    for federated visual classification, arXiv:1909.06335.
    """
    check_positive("beta", beta)
    least = max(1, min_samples)
    made = units(pool)
    m = check_num_clients(num_clients, len(pool.labels), least)
    owner = np.empty(len(made.labels), np.int64)
    for members in shuffled_by_label(made.labels, rng):
        shares = rng.dirichlet(np.full(m, beta))
        owner[members] = cut_by_shares(made.sizes[members], shares)
    moved = repair(owner, made.sizes, m, least, rng)
    return gather(owner, made, m, moved)
