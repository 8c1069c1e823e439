"""Results and times of collectives, and offsets of clocks."""

import time
from collections.abc import Callable
from statistics import median

import numpy as np

from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.doctor.findings import CollectiveTimings
from fedapm_mpi.doctor.watchdog import Watchdog

CHECKED_LENGTH = 1000
"""Numbers in the collectives whose results are checked."""

SMALL_REPETITIONS, LARGE_REPETITIONS = 15, 5
"""How often a small and a large collective are timed."""


def measure(
    comm: Communicator, megabytes: float, watch: Watchdog
) -> CollectiveTimings | None:
    """Check and time collectives; return the results on the server.

    Parameters
    ----------
    comm
        The ranks.
    megabytes
        Size of the large collectives.
    watch
        Is informed of every step.
    """
    found = comm.gather_object(_wrong(comm, watch))
    seconds, rates = _small(comm, watch), _large(comm, megabytes, watch)
    if found is None:
        return None
    wrong = [text for of_rank in found for text in of_rank]
    return CollectiveTimings(
        wrong=wrong, seconds=seconds, bytes_per_second=rates, megabytes=megabytes
    )


def clock_offsets(comm: Communicator, watch: Watchdog) -> list[float] | None:
    """Return by how many seconds each rank's clock is ahead, on the server.

    All read their clocks as they leave a barrier; of several times the best counts.
    """
    watch.step("reading clocks")
    times = []
    for _ in range(LARGE_REPETITIONS):
        comm.barrier()
        times.append(time.time())
    every = comm.gather_object(times)
    if every is None:
        return None
    first = every[SERVER]
    return [
        min((a - b for a, b in zip(one, first, strict=True)), key=abs) for one in every
    ]


def _wrong(comm: Communicator, watch: Watchdog) -> list[str]:
    """Return a sentence for each wrong result of this rank."""
    rank, size = comm.rank, comm.size
    steps = np.arange(CHECKED_LENGTH, dtype=np.int64)
    wrong = []

    watch.step("broadcast")
    received = 7 * steps + 3 if rank == SERVER else np.zeros_like(steps)
    comm.broadcast(received)
    if not np.array_equal(received, 7 * steps + 3):
        wrong.append(f"the broadcast to rank {rank} has other numbers")

    watch.step("sum")
    summed = (rank + 1) * steps
    comm.reduce_sum(summed)
    if rank == SERVER and not np.array_equal(summed, size * (size + 1) // 2 * steps):
        wrong.append("an exact sum over ranks is wrong")

    watch.step("gather")
    every = comm.gather_object(rank)
    if rank == SERVER and every != list(range(size)):
        wrong.append(f"gathering ranks gave {every}")

    watch.step("maximum")
    if comm.allreduce_max([rank, -rank]) != [size - 1, 0]:
        wrong.append(f"the maximum over ranks is wrong on rank {rank}")
    return wrong


def _small(comm: Communicator, watch: Watchdog) -> dict[str, float]:
    number = np.zeros(1, np.int64)
    collectives: dict[str, Callable[[], None]] = {
        "barrier": comm.barrier,
        "broadcast of 8 bytes": lambda: comm.broadcast(number),
    }
    return {
        name: _time(comm, name, run, SMALL_REPETITIONS, watch)
        for name, run in collectives.items()
    }


def _large(comm: Communicator, megabytes: float, watch: Watchdog) -> dict[str, float]:
    array = np.zeros(max(1, int(megabytes * 1e6 / 8)), np.int64)
    collectives: dict[str, Callable[[], None]] = {
        "broadcast": lambda: comm.broadcast(array),
        "sum": lambda: comm.reduce_sum(array),
    }
    return {
        name: array.nbytes
        / _time(comm, f"{name} of {megabytes:g} MB", run, LARGE_REPETITIONS, watch)
        for name, run in collectives.items()
    }


def _time(
    comm: Communicator,
    name: str,
    run: Callable[[], None],
    times: int,
    watch: Watchdog,
) -> float:
    """Return the median time of a collective on the rank where it takes longest.

    The first is left out as a warm-up.
    """
    found = []
    for k in range(times + 1):
        watch.step(f"{name}, {k} of {times}")
        comm.barrier()
        start = time.perf_counter()
        run()
        found += comm.allreduce_max([time.perf_counter() - start])
    return max(median(found[1:]), 1e-9)
