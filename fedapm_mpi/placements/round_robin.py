"""Round-robin placement."""

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.placements.base import placements


@placements.register("round-robin")
def round_robin(costs: NDArray[np.int64], hosts: int) -> NDArray[np.int64]:
    """Give client i to host i modulo the number of hosts."""
    return np.arange(len(costs)) % hosts
