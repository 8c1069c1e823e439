"""Collectives over MPI. No other module of the package imports mpi4py.

MPI is started with mpi4py's default, full thread support, though one thread calls it:
with less, MPICH spins in a collective without yielding, and three ranks on two cores
took 600 ms for a broadcast of 2 MB instead of 2.
"""

from __future__ import annotations

import atexit
import os
import time
from array import array
from collections.abc import Sequence
from typing import NoReturn, TypeVar

from mpi4py import MPI

from fedapm_mpi.comm.backoff import poll_interval
from fedapm_mpi.comm.base import SERVER, Array, chunks, flat_view
from fedapm_mpi.comm.last_words import wait_until_read
from fedapm_mpi.comm.launch_env import launched_size
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.utils.terminal import print_error

T = TypeVar("T")

CHUNK_ELEMENTS = 2**26
"""Elements in one message; well below the 2^31 that an MPI count may be limited to."""

SPIN_SECONDS = 200e-6
"""A wait shorter than this is spent testing, without sleep."""


class MPICommunicator:
    """Collectives on a duplicate of a communicator, so that no other traffic mixes in.

    Parameters
    ----------
    comm
        The ranks.
    piece_elements
        Most elements in one message.
    """

    def __init__(
        self, comm: MPI.Intracomm, piece_elements: int = CHUNK_ELEMENTS
    ) -> None:
        self._parent = os.getppid()
        self._wait_polling(comm.Ibarrier())
        self._comm = comm.Dup()
        self._piece = piece_elements
        self.rank: int = self._comm.rank
        self.size: int = self._comm.size

    def broadcast(self, array: Array) -> None:
        self.barrier()
        vector = flat_view(array)
        for piece in chunks(len(vector), self._piece):
            self._comm.Bcast(vector[piece], root=SERVER)

    def reduce_sum(self, array: Array) -> None:
        vector = flat_view(array)
        for piece in chunks(len(vector), self._piece):
            if self.rank == SERVER:
                self._comm.Reduce(MPI.IN_PLACE, vector[piece], op=MPI.SUM, root=SERVER)
            else:
                self._comm.Reduce(vector[piece], None, op=MPI.SUM, root=SERVER)

    def allreduce_max(self, values: Sequence[float]) -> list[float]:
        sent = array("d", values)
        found = array("d", bytes(8 * len(sent)))
        self._wait_polling(self._comm.Iallreduce(sent, found, op=MPI.MAX))
        return found.tolist()

    def gatherv(self, rows: Array, counts: Sequence[int]) -> Array | None:
        import numpy as np

        self.barrier()
        width = rows.shape[1]
        # A rank sends its rows in turns of at most `step`, so that counts stay small,
        # and so do the server's displacements, which add up over ranks.
        step = max(1, self._piece // max(1, width * self.size))
        turns = max((-(-count // step) for count in counts), default=0)
        ends = np.cumsum([0, *counts])
        found = np.empty((int(ends[-1]), width), rows.dtype) if self.rank == 0 else None
        for turn in range(turns):
            share = [min(step, max(0, count - turn * step)) for count in counts]
            mine = rows[turn * step : turn * step + share[self.rank]]
            self._gather_turn(mine, found, share, ends[:-1] + turn * step, step)
        return found

    def allgather_int(self, number: int) -> list[int]:
        sent = array("q", [number])
        found = array("q", bytes(8 * self.size))
        self._wait_polling(self._comm.Iallgather(sent, found))
        return found.tolist()

    def bcast_object(self, item: T | None) -> T:
        self.barrier()
        shared: T = self._comm.bcast(item, root=SERVER)
        return shared

    def gather_object(self, item: T) -> list[T] | None:
        self.barrier()
        return self._comm.gather(item, root=SERVER)

    def raise_collectively(self, error: FedAPMError | None) -> None:
        # Almost always no rank has one, which a maximum of one number shows.
        if not any(self.allreduce_max([error is not None])):
            return
        first = next(e for e in self._comm.allgather(error) if e is not None)
        first.agreed = True
        raise first

    def nodes(self) -> list[int]:
        self.barrier()
        node = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        lowest = node.bcast(self.rank)
        node.Free()
        return self.allgather_int(lowest)

    def barrier(self) -> None:
        self._wait_polling(self._comm.Ibarrier())

    def finalize(self) -> None:
        self.barrier()
        _finalize()

    def abort(self, exit_code: int) -> NoReturn:
        wait_until_read()  # the launcher may end all before it looks for output
        self._comm.Abort(exit_code)
        os._exit(exit_code)  # not reached; Abort does not return

    def _gather_turn(
        self,
        mine: Array,
        found: Array | None,
        share: list[int],
        starts: Array,
        step: int,
    ) -> None:
        import numpy as np

        width = mine.shape[1]
        sent = np.ascontiguousarray(mine)
        if found is None:
            self._comm.Gatherv(sent, None, root=SERVER)
            return
        landing = np.empty((sum(share), width), found.dtype)
        self._comm.Gatherv(sent, [landing, [n * width for n in share]], root=SERVER)
        start = 0
        for where, n in zip(starts, share, strict=True):
            found[where : where + n] = landing[start : start + n]
            start += n

    def _wait_polling(self, request: MPI.Request) -> None:
        # A blocking collective spins: the idle server would take a core from a
        # training rank, and Python's signal handlers would not run. So poll, and sleep.
        start = time.monotonic()
        while not request.Test():
            waited = time.monotonic() - start
            if waited > SPIN_SECONDS:
                self._leave_if_orphaned()
                time.sleep(poll_interval(waited))

    def _leave_if_orphaned(self) -> None:
        # Not every launcher takes its ranks along when it is killed: they would wait
        # for each other forever.
        if os.getppid() != self._parent:
            who = f"rank {self.rank} of {self.size}"
            # A dying process does not log; see `utils.log`.
            print_error(f"fedapm: error: {who}: the launcher is gone; leaving")
            os._exit(FedAPMError.exit_code)


def start() -> None:
    """Start MPI, if importing this module did not.

    ``MPI4PY_RC_INITIALIZE=0`` prevents it on import, so that `library` can be called
    first.
    """
    if not MPI.Is_initialized():
        MPI.Init_thread(MPI.THREAD_MULTIPLE)
        atexit.register(_finalize)


def _finalize() -> None:
    if not MPI.Is_finalized():
        MPI.Finalize()


def world() -> MPICommunicator:
    """Return a communicator of all ranks.

    Raises
    ------
    ConfigError
        If the launcher started several ranks but each of them is alone.
    """
    start()
    size = MPI.COMM_WORLD.size
    launched, variable = launched_size()
    if size == 1 and launched > 1:
        msg = (
            f"{variable} says that {launched} ranks were started, but this one is "
            f"alone: {MPI.get_vendor()[0]} was not started by a launcher it knows. Use "
            "the mpiexec that belongs to this MPI, or srun --mpi=pmi2 (MPICH) or "
            "--mpi=pmix (Open MPI)"
        )
        raise ConfigError(msg)
    return MPICommunicator(MPI.COMM_WORLD)


def library() -> str:
    """Return the name and version of the MPI library, on one line."""
    return " ".join(MPI.Get_library_version().split("\n")[0].strip("\0 ").split())
