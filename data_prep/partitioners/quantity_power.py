"""Skew of size by a power law, labels alike."""

import numpy as np

from data_prep.partitioners.base import (
    Parts,
    Pool,
    by_size,
    needed,
    partitioners,
    positive,
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

    Which client has which rank is drawn, so that a client's number tells nothing of
    its size.

    Parameters
    ----------
    pool
        The samples.
    num_clients
        Number of clients.
    rng
        Decides who has which rank.
    exponent
        Of the power law; 1 is Zipf's.
    min_samples
        Fewest samples of a client; the largest give what is missing.

    Raises
    ------
    ConfigError
        If `exponent` is not positive or there are too few samples.
    """
    positive("exponent", exponent)
    least = max(1, min_samples)
    m = needed(num_clients, len(pool.labels), least)
    shares = (rng.permutation(m) + 1.0) ** -exponent
    return by_size(pool, shares, rng, least)
