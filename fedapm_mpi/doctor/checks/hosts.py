"""Whether hosts have enough shared memory, and the right time."""

from collections.abc import Iterator
from statistics import median

from fedapm_mpi.doctor.findings import Finding, Observations, names
from fedapm_mpi.storage.tensor_store import MEMORY

MIN_SHARED_MEMORY_BYTES = 256e6
"""Bytes that MPI and small data sets take; containers often have 64 MB."""

MAX_CLOCK_OFFSET_SECONDS = 1.0
"""Seconds by which clocks may differ."""


def memory(observed: Observations) -> Iterator[Finding]:
    """Find hosts whose folder of files in memory is too small, or absent."""
    needed: dict[int, float] = {}
    for dataset in observed.data:
        for report in dataset.seen:
            node = observed.ranks[report.rank].node
            shared = 0 if observed.scratch else report.sample_bytes
            needed[node] = max(needed.get(node, 0), shared)
    absent, small = [], []
    for node, ranks in observed.nodes().items():
        free, wanted = (
            ranks[0].memory_free,
            max(MIN_SHARED_MEMORY_BYTES, needed.get(node, 0)),
        )
        if free is None:
            absent.append(ranks[0].host)
        elif free < wanted:
            small.append(
                f"{ranks[0].host} has {free / 1e6:.0f} MB free and needs "
                f"{wanted / 1e6:.0f} MB"
            )
    if absent:
        what = (
            f"there is no {MEMORY} on {names(absent)}, where ranks of a node share "
            "samples"
        )
        remedy = "set scratch=FOLDER on a disk of the node"
        yield Finding("warning", "memory files", what, remedy)
    if small:
        what = f"{MEMORY} is too small for MPI and shared samples: {names(small)}"
        remedy = (
            "delete old files there, give the container more (--shm-size), or set "
            "scratch=FOLDER on a disk of the node"
        )
        yield Finding("warning", "memory files", what, remedy)


def clocks(observed: Observations) -> Iterator[Finding]:
    """Find hosts whose clocks differ from the median."""
    if observed.clocks is None:
        return
    middle = median(observed.clocks)
    wrong = {
        observed.host(rank): ahead - middle
        for rank, ahead in enumerate(observed.clocks)
        if abs(ahead - middle) > MAX_CLOCK_OFFSET_SECONDS
    }
    if wrong:
        offsets = names(
            f"{host} by {abs(by):.1f} s {'ahead' if by > 0 else 'behind'}"
            for host, by in wrong.items()
        )
        remedy = "synchronize them (NTP); times in files and logs are wrong until then"
        yield Finding("warning", "clocks", f"clocks differ: {offsets}", remedy)
