"""Whether every host has the shards of a data set that its ranks need."""

from collections.abc import Iterator

from fedapm_mpi.doctor.findings import (
    DataReport,
    DataSet,
    Finding,
    Level,
    Observations,
    ShardFault,
    names,
)

COPY_REMEDY = "copy it there, or use a folder that all nodes share"

REMEDIES: dict[str, tuple[Level, str, str]] = {
    "missing": ("fault", "missing shard", COPY_REMEDY),
    "other": (
        "fault",
        "damaged shard",
        "copy it again from where it was prepared, or prepare the data set again",
    ),
    "locked": (
        "fault",
        "locked HDF5",
        "end the program that has it open for writing, or wait for its end; if there "
        "is none, the file system keeps the lock of a dead program: copy the file, or "
        "set HDF5_USE_FILE_LOCKING=FALSE",
    ),
    "no locks": (
        "note",
        "no file locks",
        "fedapm reads without locks; other programs need HDF5_USE_FILE_LOCKING=FALSE",
    ),
}
"""By kind of fault: level, name of the finding, and remedy."""


def manifests(observed: Observations) -> Iterator[Finding]:
    """Find hosts where a data set is absent, or another one."""
    for data in observed.data:
        if data.error is not None:
            remedy = "give a directory that fedapm prepare has made"
            yield Finding("fault", "no data set", data.error, remedy, "data")
            continue
        reports = [one for one in data.seen if one.looked and one.rank != 0]
        without = _hosts(observed, [one for one in reports if not one.folder])
        if without:
            what = f"{without} has no folder {data.directory}"
            yield Finding("fault", "missing data", what, COPY_REMEDY, "data")
        there = [one for one in reports if one.folder]
        without = _hosts(observed, [one for one in there if one.manifest is None])
        if without:
            what = f"{without} has no manifest in {data.directory}"
            yield Finding("warning", "missing manifest", what, COPY_REMEDY, "data")
        other = _hosts(
            observed, [one for one in there if one.manifest not in (None, data.sha256)]
        )
        if other:
            what = (
                f"{other} has another data set in {data.directory} than "
                f"{observed.host(0)}: their manifests differ"
            )
            remedy = "copy the same data set to all hosts"
            yield Finding("fault", "other data set", what, remedy, "data")


def shards(observed: Observations) -> Iterator[Finding]:
    """Find shards that are missing, damaged or locked on hosts that need them."""
    for data in observed.data:
        for kind, (level, name, remedy) in REMEDIES.items():
            for host, faults in _faults(observed, data, kind).items():
                others = names((one.shard for one in faults[1:]), 3)
                what = f"on {host}, {faults[0].text}"
                if len(faults) > 1:
                    what += f", and {len(faults) - 1} more like it ({others})"
                yield Finding(level, name, what, remedy, "data")


def _faults(
    observed: Observations, data: DataSet, kind: str
) -> dict[str, list[ShardFault]]:
    found: dict[str, list[ShardFault]] = {}
    for report in data.seen:
        if not report.folder:  # `manifests` reports that
            continue
        for fault in report.faults:
            if fault.kind == kind:
                found.setdefault(observed.host(report.rank), []).append(fault)
    return found


def _hosts(observed: Observations, reports: list[DataReport]) -> str:
    return names(observed.host(one.rank) for one in reports)
