"""Whether the folder of runs is one that all ranks share."""

from collections.abc import Iterator

from fedapm_mpi.doctor.findings import Finding, Observations, names, numbers

SLOW_SECONDS = 2.0
"""Seconds after which others should see what one rank wrote."""


def writing(observed: Observations) -> Iterator[Finding]:
    """Tell which ranks cannot write, as all must."""
    refused = {
        rank: seen.refused
        for rank, seen in enumerate(observed.shared or ())
        if seen.refused
    }
    if refused:
        where = names(map(observed.host, refused))
        what = (
            f"ranks {numbers(refused)} on {where} cannot write to {observed.folder} "
            f"({names(refused.values(), 1)})"
        )
        mend = "run in a folder that you may write to, or name one by --folder"
        yield Finding("fault", "no write permission", what, mend)


def file_system(observed: Observations) -> Iterator[Finding]:
    """Tell which hosts do not see what rank 0 writes, or see it late."""
    if not observed.shared or observed.shared[0].refused:
        return
    seen = dict(enumerate(observed.shared))
    blind = [r for r, one in seen.items() if one.seconds is None]
    if blind:
        what = (
            f"{names(map(observed.host, blind))} (ranks {numbers(blind)}) do not see "
            f"what {observed.host(0)} writes to {observed.folder}"
        )
        mend = "use a folder on a file system that all nodes share; name it by --folder"
        yield Finding("fault", "not shared", what, mend)
    stale = [r for r, one in seen.items() if r not in blind and one.renamed is None]
    if stale:
        what = (
            f"a file that {observed.host(0)} puts in the place of another in "
            f"{observed.folder} is not seen by ranks {numbers(stale)}"
        )
        mend = (
            "checkpoints are written so: keep runs on another file system, or mount "
            "this one without caching of attributes (noac)"
        )
        yield Finding("fault", "rename", what, mend)
    late = max((max(s.seconds or 0, s.renamed or 0) for s in seen.values()), default=0)
    if late > SLOW_SECONDS:
        what = (
            f"what one host writes to {observed.folder} others see {late:.0f} s later"
        )
        mend = "start a run's follow-up job that much later"
        yield Finding("note", "slow file system", what, mend)


def locks(observed: Observations) -> Iterator[Finding]:
    """Tell where files cannot be locked, or others' locks do not count."""
    seen = dict(enumerate(observed.shared or ()))
    none = [rank for rank, one in seen.items() if one.lock == "none"]
    if none:
        what = f"{observed.folder} knows no file locks (ranks {numbers(none)})"
        mend = (
            "fedapm reads data without; other programs that use HDF5 there need "
            "HDF5_USE_FILE_LOCKING=FALSE, and scratch must be elsewhere"
        )
        yield Finding("note", "no file locks", what, mend)
    blind = [rank for rank, one in seen.items() if one.lock == "not seen"]
    if blind:
        where = names(map(observed.host, blind))
        what = (
            f"locks of {observed.host(0)} in {observed.folder} do not count on {where}"
        )
        mend = "do not prepare one data set from two hosts at once"
        yield Finding("note", "local file locks", what, mend)
    hdf5 = {rank: one.hdf5 for rank, one in seen.items() if one.hdf5}
    if hdf5:
        what = (
            f"ranks {numbers(hdf5)} cannot open an HDF5 file in {observed.folder} "
            f"together ({names(hdf5.values(), 1)})"
        )
        mend = "set HDF5_USE_FILE_LOCKING=FALSE for all ranks"
        yield Finding("warning", "locked HDF5", what, mend)
