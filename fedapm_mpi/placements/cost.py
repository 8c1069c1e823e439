"""Placement that balances the expected work of the hosts."""

import heapq

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.placements.base import placements


@placements.register("cost")
def cost(costs: NDArray[np.int64], hosts: int) -> NDArray[np.int64]:
    """Give the largest client first, each to the host with the least work so far.

    Graham's LPT rule: the busiest host has at most 4/3 of its work in the best
    placement.
    """
    placed = np.empty(len(costs), dtype=np.int64)
    loads = [(0, host) for host in range(hosts)]
    for client in np.argsort(-costs, kind="stable"):
        load, host = loads[0]
        placed[client] = host
        # A client without samples still costs its state: count at least one.
        heapq.heapreplace(loads, (load + max(1, int(costs[client])), host))
    return placed
