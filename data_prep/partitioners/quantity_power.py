"""Skew of size by a power law, labels alike."""

import numpy as np

from data_prep.partitioners.base import (
    Parts,
    Pool,
    check_positive,
    partitioners,
    split_by_rank,
)


@partitioners.register("quantity-power")
def quantity_power(
    pool: Pool,
    num_clients: int | None,
    rng: np.random.Generator,
    *,
    exponent: float = 1.0,
    min_samples: int = 10,
) -> Parts:
    """Give the client of rank k a share of all samples in proportion to k^-exponent.

    Ranks are assigned at random, so that a client's number is independent of its size.

    Parameters
    ----------
    pool
        The samples.
    num_clients
        Number of clients.
    rng
        Source of ranks and assignment.
    exponent
        Of the power law; 1 is Zipf's.
    min_samples
        Minimum number of samples of a client; the largest give up the missing ones.

    Raises
    ------
    ConfigError
        If `exponent` is not positive or there are too few samples.
    """
    check_positive("exponent", exponent)
    return split_by_rank(
        pool, num_clients, rng, min_samples, lambda ranks: (ranks + 1.0) ** -exponent
    )
