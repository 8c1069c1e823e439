"""Label skew by a Dirichlet draw for each class, disjoint."""

import numpy as np

from data_prep.partitioners.base import (
    Parts,
    Pool,
    deal,
    gather,
    needed,
    partitioners,
    positive,
    repair,
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
    """Give each class to clients in shares drawn from Dir(beta); disjoint and whole.

    The class is shuffled and cut by its shares, so that each sample has exactly one
    owner (the authors' code draws each client's share from the whole class, and gives
    a third of the data away twice). Clients short of the minimum are filled from the
    largest ones afterwards; how many samples that moved is reported.

    Parameters
    ----------
    pool
        The samples.
    num_clients
        Number of clients.
    rng
        Where the shares come from.
    beta
        Concentration: the smaller, the fewer classes a client has.
    min_samples
        Fewest samples of a client.

    Raises
    ------
    ConfigError
        If `beta` is not positive or there are too few samples.

    References
    ----------
    Hsu, Qi and Brown (2019), Measuring the effects of non-identical data distribution
    for federated visual classification, arXiv:1909.06335.
    """
    positive("beta", beta)
    least = max(1, min_samples)
    made = units(pool)
    m = needed(num_clients, len(pool.labels), least)
    order = rng.permutation(len(made.labels))
    order = order[np.argsort(made.labels[order], kind="stable")]
    bounds = np.flatnonzero(np.diff(made.labels[order])) + 1
    owner = np.empty(len(order), np.int64)
    for members in np.split(order, bounds):
        shares = rng.dirichlet(np.full(m, beta))
        owner[members] = deal(made.sizes[members], shares)
    moved = repair(owner, made.sizes, m, least, rng)
    return gather(owner, made, m, moved)
