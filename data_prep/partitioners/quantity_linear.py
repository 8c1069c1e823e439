"""Skew of size by equal steps, labels alike."""

import numpy as np

from data_prep.partitioners.base import (
    Parts,
    Pool,
    check_num_clients,
    partitioners,
    split_by_size,
)


@partitioners.register("quantity-linear")
def quantity_linear(
    pool: Pool,
    num_clients: int | None,
    rng: np.random.Generator,
    *,
    min_samples: int = 10,
) -> Parts:
    """Give the client of rank k a share of all samples in proportion to k.

    Ranks are assigned at random, so that a client's number is independent of its size.

    Parameters
    ----------
    pool
        The samples.
    num_clients
        Number of clients.
    rng
        Source of ranks and assignment.
    min_samples
        Minimum number of samples of a client; the largest give up the missing ones.

    Raises
    ------
    ConfigError
        If there are too few samples.
    """
    least = max(1, min_samples)
    m = check_num_clients(num_clients, len(pool.labels), least)
    return split_by_size(pool, rng.permutation(m) + 1.0, rng, least)
