"""Cost of the exact sum, compared with MPI's sum of the same number of doubles.

    mpiexec -n 3 python -m benchmarks.exact_sum [--length 11000000] [--repeats 15]

One update on each client rank, as after a round with one participant there. Both sums
are run in turn; times are those of the slowest rank, after a barrier. Memory is the
increase over what a rank holds before (its update), in units of one vector of doubles:
the server's result takes one. Reading it needs Linux.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks._common import keep, machine
from fedapm_mpi.aggregators import AggregationContext, aggregators
from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.comm.runtime import open_communicator

MAX_RATIO = 1.3
"""Of the exact sum's time to that of MPI's sum."""


def timed(comm: Communicator, work: Callable[[], object]) -> float:
    """Return the seconds that the slowest rank takes."""
    comm.barrier()
    begin = time.perf_counter()
    work()
    return comm.allreduce_max([time.perf_counter() - begin])[0]


def risen(work: Callable[[], object]) -> int:
    """Return the bytes by which resident memory rises, at most, while work is done."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from now
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    msg = f"/proc/self/status has no {key}; this benchmark needs Linux"
    raise SystemExit(msg)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exact_sum")
    parser.add_argument("--length", type=int, default=11_000_000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args(words)
    comm = open_communicator()
    rng = np.random.default_rng(comm.rank)
    hosts = comm.rank != SERVER or comm.size == 1
    increments = [rng.normal(size=args.length)] if hosts else []
    largest = comm.allreduce_max(
        [max((np.abs(x).max() for x in increments), default=0.0)]
    )[0]
    terms = max(1, comm.size - 1)
    context = AggregationContext(
        round_index=0,
        participants=np.arange(terms),
        clients=[comm.rank][: len(increments)],
        seed=0,
        length=args.length,
        largest=largest,
    )
    doubles = np.zeros(args.length)
    exact = aggregators.get("exact")()

    def plain() -> None:
        doubles[:] = increments[0] if increments else 0.0
        comm.reduce_sum(doubles)

    def ours() -> None:
        exact.sum(comm, increments, context)

    plain()
    ours()  # memory that MPI keeps from now on does not count
    rise = risen(ours) / (8 * args.length)
    of_server, of_clients = comm.allreduce_max(
        [rise * (comm.rank == SERVER), rise * hosts]
    )
    pairs = [(timed(comm, plain), timed(comm, ours)) for _ in range(args.repeats)]
    if comm.rank != SERVER:
        return
    mpi, own = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(machine())
    print(
        f"{comm.size} ranks, {args.length} numbers: MPI's sum {mpi * 1e3:.0f} ms, the "
        f"exact sum {own * 1e3:.0f} ms, {own / mpi:.2f} times (at most {MAX_RATIO}); "
        f"memory rises by {of_server:.2f} vectors on the server, {of_clients:.2f} on "
        "other ranks"
    )
    header = ["ranks", "length", "mpi_s", "exact_s", "ratio", "server", "clients"]
    figures = [comm.size, args.length, mpi, own, own / mpi, of_server, of_clients]
    keep(args.csv, header, [figures])


if __name__ == "__main__":
    main()
