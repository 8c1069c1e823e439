"""Skew of size by equal steps, labels alike."""

import numpy as np

from data_prep.partitioners.base import Parts, Pool, partitioners, split_by_rank


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
    return split_by_rank(pool, num_clients, rng, min_samples, lambda ranks: ranks + 1.0)
