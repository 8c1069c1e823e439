"""Every client a random sample of the whole."""

import numpy as np

from .base import Parts, Pool, deal, gather, needed, partitioners, repair, units


@partitioners.register("iid")
def iid(pool: Pool, num_clients: int | None, rng: np.random.Generator) -> Parts:
    """Deal samples at random and evenly: the control without heterogeneity.

    Without groups, sizes differ by at most one.
    """
    made = units(pool)
    m = needed(num_clients, len(made.sizes))
    order = rng.permutation(len(made.sizes))
    owner = np.empty(len(order), np.int64)
    owner[order] = deal(made.sizes[order], np.ones(m))
    moved = repair(owner, made.sizes, m, 1, rng)
    return gather(owner, made, m, moved)
