"""Every client a random sample of the whole."""

import numpy as np

from data_prep.partitioners.base import (
    Parts,
    Pool,
    by_size,
    needed,
    partitioners,
    units,
)


@partitioners.register("iid")
def iid(pool: Pool, num_clients: int | None, rng: np.random.Generator) -> Parts:
    """Deal samples at random and evenly: the control without heterogeneity.

    Without groups, sizes differ by at most one.
    """
    m = needed(num_clients, len(units(pool).sizes))
    return by_size(pool, np.ones(m), rng, 1)
