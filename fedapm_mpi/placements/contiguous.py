"""Placement by blocks of consecutive clients."""

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.placements.base import placements


@placements.register("contiguous")
def contiguous(costs: NDArray[np.int64], hosts: int) -> NDArray[np.int64]:
    """Give each host a block of consecutive clients; blocks differ by at most one."""
    m = len(costs)
    return np.arange(m) * hosts // max(1, m)
