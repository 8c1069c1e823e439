"""The interface of a placement: the home rank of each client."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.registry import Registry

Placement = Callable[[NDArray[np.int64], int], NDArray[np.int64]]
"""``place(costs, hosts)``: return the host (m,) of each client, in ``range(hosts)``.

`costs` (m,) is the expected work of each client, its training samples for example. The
function is pure: it returns the same on every rank.
"""

placements: Registry[Placement] = Registry("placement", __package__)


def client_ranks(size: int) -> range:
    """Return the ranks that host clients: all but the server, or the only one."""
    return range(1) if size == 1 else range(1, size)
