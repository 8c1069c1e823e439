"""The communicator of a run in one process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, TypeVar

from fedapm_mpi.comm.base import SERVER, Array
from fedapm_mpi.errors import FedAPMError

T = TypeVar("T")


class Serial:
    """One process that is the server and the host of every client."""

    rank = SERVER
    size = 1

    def broadcast(self, array: Array) -> None:
        """Do nothing."""

    def reduce_sum(self, array: Array) -> None:
        """Do nothing."""

    def allreduce_max(self, values: Sequence[float]) -> list[float]:
        return list(values)

    def gatherv(self, rows: Array, counts: Sequence[int]) -> Array | None:
        return rows

    def allgather_int(self, number: int) -> list[int]:
        return [number]

    def bcast_object(self, item: T | None) -> T:
        assert item is not None
        return item

    def gather_object(self, item: T) -> list[T] | None:
        return [item]

    def raise_collectively(self, error: FedAPMError | None) -> None:
        if error is not None:
            error.agreed = True
            raise error

    def nodes(self) -> list[int]:
        return [SERVER]

    def barrier(self) -> None:
        """Do nothing."""

    def finalize(self) -> None:
        """Do nothing."""

    def abort(self, exit_code: int) -> NoReturn:
        raise SystemExit(exit_code)
