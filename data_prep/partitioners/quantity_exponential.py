"""Skew of size by equal ratios, labels alike."""

import numpy as np

from data_prep.partitioners.base import (
    Parts,
    Pool,
    check_positive,
    partitioners,
    split_by_rank,
)


@partitioners.register("quantity-exponential")
def quantity_exponential(
    pool: Pool,
    num_clients: int | None,
    rng: np.random.Generator,
    *,
    ratio: float = 10.0,
    min_samples: int = 10,
) -> Parts:
    """Give clients shares of all samples that fall by the same factor from one to next.

    The largest has `ratio` times the share of the smallest. Which client is which is
    drawn at random, so that a client's number is independent of its size.

    Parameters
    ----------
    pool
        The samples.
    num_clients
        Number of clients.
    rng
        Source of ranks and assignment.
    ratio
        Samples of the largest client over those of the smallest.
    min_samples
        Minimum number of samples of a client; the largest give up the missing ones.

    Raises
    ------
    ConfigError
        If `ratio` is not positive or there are too few samples.
    """
    check_positive("ratio", ratio)
    return split_by_rank(
        pool,
        num_clients,
        rng,
        min_samples,
        lambda ranks: ratio ** (ranks / max(1, len(ranks) - 1)),
    )
