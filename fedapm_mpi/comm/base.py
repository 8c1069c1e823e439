"""The collectives of a run. Every method is called by every rank, or by none.

NumPy is imported by those that move arrays: ranks talk to each other before it is
loaded; see `utils.kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias, TypeVar

from fedapm_mpi.errors import FedAPMError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SERVER = 0
"""The rank that holds the shared model; it hosts no client unless it is alone."""

T = TypeVar("T")
Array: TypeAlias = "NDArray[Any]"


class Communicator(Protocol):
    """A group of ranks with one server.

    Methods that move arrays move buffers, never pickles, in pieces that any MPI can
    count. Ranks that have nothing to do wait without burning a core.
    """

    rank: int
    size: int

    def broadcast(self, array: Array) -> None:
        """Overwrite a contiguous `array` on every rank with the server's."""
        ...

    def reduce_sum(self, array: Array) -> None:
        """Overwrite the server's contiguous `array` with the sum over ranks.

        What other ranks' `array` holds afterwards is undefined.
        """
        ...

    def allreduce_max(self, values: Sequence[float]) -> list[float]:
        """Return the elementwise maximum over ranks of a few numbers, on every rank."""
        ...

    def gatherv(self, rows: Array, counts: Sequence[int]) -> Array | None:
        """Return every rank's rows, in rank order, on the server; `None` elsewhere.

        Parameters
        ----------
        rows : (counts[rank], c)
            Contiguous; of the same dtype and width on every rank.
        counts : (size,)
            Rows of each rank.
        """
        ...

    def allgather_int(self, number: int) -> list[int]:
        """Return every rank's number, on every rank."""
        ...

    def bcast_object(self, item: T | None) -> T:
        """Return the server's small object on every rank."""
        ...

    def gather_object(self, item: T) -> list[T] | None:
        """Return every rank's small object on the server; `None` elsewhere."""
        ...

    def raise_collectively(self, error: FedAPMError | None) -> None:
        """Raise on every rank if any rank brings an error.

        The error of the lowest rank that brings one is raised everywhere, marked as
        agreed.
        """
        ...

    def nodes(self) -> list[int]:
        """Return, for each rank, the lowest rank that can share memory with it."""
        ...

    def barrier(self) -> None:
        """Return when every rank has called it."""
        ...

    def finalize(self) -> None:
        """Return when every rank has called it; none calls another method after it."""
        ...

    def abort(self, exit_code: int) -> NoReturn:
        """End the whole job at once."""
        ...


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
    import numpy as np

    mine = np.array(rows, dtype=np.float64).reshape(-1, width)
    named = np.column_stack([np.array(clients, dtype=np.float64), mine])
    found = comm.gatherv(named, comm.allgather_int(len(clients)))
    if found is None:
        return None
    return found[:, 0].astype(np.int64), found[:, 1:]


def chunks(length: int, limit: int) -> list[slice]:
    """Divide ``range(length)`` into slices of at most `limit` elements."""
    return [slice(start, start + limit) for start in range(0, length, limit)]


def flat_view(array: Array) -> Array:
    """Return a contiguous array as one flat view.

    Raises
    ------
    ValueError
        If it is not contiguous, so that a view is impossible.
    """
    if not array.flags.c_contiguous:
        msg = f"array of shape {array.shape} is not contiguous"
        raise ValueError(msg)
    return array.reshape(-1)
