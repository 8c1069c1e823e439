"""Whether all ranks share the folder of runs."""

from collections.abc import Iterator

from fedapm_mpi.doctor.findings import Finding, Observations, names, numbers

MAX_VISIBILITY_SECONDS = 2.0
"""Seconds within which other hosts should see what one rank has written."""


def writing(observed: Observations) -> Iterator[Finding]:
    """Find ranks that cannot write to the folder."""
    refused = {
        rank: report.refused
        for rank, report in enumerate(observed.shared or ())
        if report.refused
    }
    if refused:
        where = names(map(observed.host, refused))
        what = (
            f"ranks {numbers(refused)} on {where} cannot write to {observed.folder} "
            f"({names(refused.values(), 1)})"
        )
        remedy = "run in a folder that you may write to, or give one by --run-dir"
        yield Finding("fault", "no write permission", what, remedy)


def file_system(observed: Observations) -> Iterator[Finding]:
    """Find hosts that do not see what rank 0 writes, or see it late."""
    if not observed.shared or observed.shared[0].refused:
        return
    reports = dict(enumerate(observed.shared))
    blind = [r for r, one in reports.items() if one.seconds is None]
    if blind:
        what = (
            f"{names(map(observed.host, blind))} (ranks {numbers(blind)}) do not see "
            f"what {observed.host(0)} writes to {observed.folder}"
        )
        remedy = (
            "use a folder on a file system that all nodes share; give it by --run-dir"
        )
        yield Finding("fault", "not shared", what, remedy)
    stale = [r for r, one in reports.items() if r not in blind and one.renamed is None]
    if stale:
        what = (
            f"ranks {numbers(stale)} do not see that {observed.host(0)} has replaced a "
            f"file in {observed.folder}"
        )
        remedy = (
            "checkpoints replace files: keep runs on another file system, or mount "
            "this one without attribute caching (noac)"
        )
        yield Finding("fault", "rename", what, remedy)
    delays = (max(one.seconds or 0, one.renamed or 0) for one in reports.values())
    late = max(delays, default=0)
    if late > MAX_VISIBILITY_SECONDS:
        what = (
            f"other hosts see files that one host writes to {observed.folder} only "
            f"{late:.0f} s later"
        )
        remedy = f"start a run's follow-up job at least {late:.0f} s later"
        yield Finding("note", "slow file system", what, remedy)


def locks(observed: Observations) -> Iterator[Finding]:
    """Find where files cannot be locked, or locks of other hosts have no effect."""
    reports = dict(enumerate(observed.shared or ()))
    none = [rank for rank, one in reports.items() if one.lock == "none"]
    if none:
        what = f"{observed.folder} has no file locks (ranks {numbers(none)})"
        remedy = (
            "fedapm reads data without locks; set HDF5_USE_FILE_LOCKING=FALSE for "
            "other programs that use HDF5 there, and keep scratch elsewhere"
        )
        yield Finding("note", "no file locks", what, remedy)
    blind = [rank for rank, one in reports.items() if one.lock == "not seen"]
    if blind:
        where = names(map(observed.host, blind))
        what = (
            f"locks of {observed.host(0)} in {observed.folder} have no effect on "
            f"{where}"
        )
        remedy = "do not prepare one data set on two hosts at once"
        yield Finding("note", "local file locks", what, remedy)
    hdf5 = {rank: one.hdf5 for rank, one in reports.items() if one.hdf5}
    if hdf5:
        what = (
            f"ranks {numbers(hdf5)} cannot open an HDF5 file in {observed.folder} "
            f"together ({names(hdf5.values(), 1)})"
        )
        remedy = "set HDF5_USE_FILE_LOCKING=FALSE for all ranks"
        yield Finding("warning", "locked HDF5", what, remedy)
