"""What a placement is: which of the hosting ranks each client lives on."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.registry import Registry

Placement = Callable[[NDArray[np.int64], int], NDArray[np.int64]]
"""``place(costs, hosts)``: from the cost (m,) of each client, say its training samples,
return the host (m,) of each in ``range(hosts)``; a pure function, the same everywhere.
"""

placements: Registry[Placement] = Registry("placement", __package__)


def client_ranks(size: int) -> range:
    """Return the ranks that host clients: all but the server, or the only one."""
    return range(1) if size == 1 else range(1, size)
