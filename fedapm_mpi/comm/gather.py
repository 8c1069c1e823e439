"""A few numbers of each client, from whichever rank worked on it, on the server."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.comm import Communicator


def gather_client_rows(
    comm: Communicator,
    clients: Sequence[int],
    rows: Sequence[Sequence[float]],
    *,
    width: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Return all ranks' clients and a row of each, rank by rank, on the server.

    A collective call; `None` elsewhere. Each row has `width` numbers.
    """
    mine = np.array(rows, dtype=np.float64).reshape(-1, width)
    named = np.column_stack([np.array(clients, dtype=np.float64), mine])
    found = comm.gatherv(named, comm.allgather_int(len(clients)))
    if found is None:
        return None
    return found[:, 0].astype(np.int64), found[:, 1:]
