"""Skew of size by a Dirichlet draw, labels alike."""

import numpy as np

from data_prep.partitioners.base import (
    Parts,
    Pool,
    check_num_clients,
    check_positive,
    partitioners,
    split_by_size,
)


@partitioners.register("quantity-dirichlet")
def quantity_dirichlet(
    pool: Pool,
    num_clients: int | None,
    rng: np.random.Generator,
    *,
    beta: float = 0.5,
    min_samples: int = 10,
) -> Parts:
    """Give clients shares of all samples drawn from Dir(beta), whatever the labels.

    Parameters
    ----------
    pool
        The samples.
    num_clients
        Number of clients.
    rng
        Source of shares and assignment.
    beta
        Concentration: the smaller, the more unequal the clients.
    min_samples
        Minimum number of samples of a client; the largest give up the missing ones.

    Raises
    ------
    ConfigError
        If `beta` is not positive or there are too few samples.

    References
    ----------
    Li, Diao, Chen and He (2022), Federated learning on non-IID data silos: an
    experimental study, arXiv:2102.02079, section 4.3.
    """
    check_positive("beta", beta)
    least = max(1, min_samples)
    m = check_num_clients(num_clients, len(pool.labels), least)
    return split_by_size(pool, rng.dirichlet(np.full(m, beta)), rng, least)
