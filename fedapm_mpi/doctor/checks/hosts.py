"""Whether hosts have what ranks need: room for files in memory, and the time."""

from collections.abc import Iterator
from statistics import median

from fedapm_mpi.doctor.findings import Finding, Observations, names
from fedapm_mpi.storage.tensor_store import MEMORY

MIN_MEMORY_SHARE = 256e6
"""Bytes that MPI and small data sets take; containers often have 64 MB."""

MIN_CLOCK_OFFSET = 1.0
"""By which clocks may differ."""


def memory(observed: Observations) -> Iterator[Finding]:
    """Tell where the folder of files in memory is too small, or absent."""
    needed: dict[int, float] = {}
    for dataset in observed.data:
        for seen in dataset.seen:
            node = observed.ranks[seen.rank].node
            own = 0 if observed.scratch else seen.sample_bytes
            needed[node] = max(needed.get(node, 0), own)
    absent, small = [], []
    for node, ranks in observed.nodes().items():
        free, wanted = ranks[0].memory_free, max(MIN_MEMORY_SHARE, needed.get(node, 0))
        if free is None:
            absent.append(ranks[0].host)
        elif free < wanted:
            small.append(
                f"{ranks[0].host} has {free / 1e6:.0f} MB left of {wanted / 1e6:.0f} MB"
            )
    if absent:
        what = f"there is no {MEMORY} on {names(absent)}, where ranks of a node share"
        mend = "set scratch=FOLDER on a disk of the node"
        yield Finding("warning", "memory files", what, mend)
    if small:
        what = f"{MEMORY} is too small for MPI and what ranks share: {names(small)}"
        mend = (
            "delete old files there, give the container more (--shm-size), or set "
            "scratch=FOLDER on a disk of the node"
        )
        yield Finding("warning", "memory files", what, mend)


def clocks(observed: Observations) -> Iterator[Finding]:
    """Tell whose clocks differ from most."""
    if observed.clocks is None:
        return
    middle = median(observed.clocks)
    wrong = {
        observed.host(rank): ahead - middle
        for rank, ahead in enumerate(observed.clocks)
        if abs(ahead - middle) > MIN_CLOCK_OFFSET
    }
    if wrong:
        told = names(
            f"{host} by {abs(by):.1f} s {'ahead' if by > 0 else 'behind'}"
            for host, by in wrong.items()
        )
        mend = "have its clock set (NTP); times in files and logs are wrong until then"
        yield Finding("warning", "clocks", f"clocks differ: {told}", mend)
