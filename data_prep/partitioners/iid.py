"""Every client gets a random sample of the whole."""

import numpy as np

from data_prep.partitioners.base import (
    Parts,
    Pool,
    check_num_clients,
    partitioners,
    split_by_size,
    units,
)


@partitioners.register("iid")
def iid(pool: Pool, num_clients: int | None, rng: np.random.Generator) -> Parts:
    """Assign samples at random and evenly: the control without heterogeneity.

    Without groups, sizes differ by at most one.
    """
    m = check_num_clients(num_clients, len(units(pool).sizes))
    return split_by_size(pool, np.ones(m), rng, 1)
