"""Whether every host has what its ranks need of a data set."""

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
        "end the program that has it open for writing, or wait for its end; if none "
        "has, the file system keeps a dead program's lock: copy the file, or set "
        "HDF5_USE_FILE_LOCKING=FALSE",
    ),
    "no locks": (
        "note",
        "no file locks",
        "fedapm reads without locks; other programs need HDF5_USE_FILE_LOCKING=FALSE",
    ),
}
"""By kind of fault: level, name of the finding, and what to do."""


def manifests(observed: Observations) -> Iterator[Finding]:
    """Tell where a data set is absent, or another one."""
    for data in observed.data:
        if data.error is not None:
            mend = "name a directory made by fedapm prepare"
            yield Finding("fault", "no data set", data.error, mend, "data")
            continue
        looked = [one for one in data.seen if one.looked and one.rank != 0]
        without = _hosts(observed, [one for one in looked if not one.folder])
        if without:
            what = f"{without} has no folder {data.directory}"
            yield Finding("fault", "missing data", what, COPY_REMEDY, "data")
        there = [one for one in looked if one.folder]
        lacking = _hosts(observed, [one for one in there if one.manifest is None])
        if lacking:
            what = f"{lacking} has no manifest in {data.directory}"
            yield Finding("warning", "missing manifest", what, COPY_REMEDY, "data")
        other = _hosts(
            observed, [one for one in there if one.manifest not in (None, data.sha256)]
        )
        if other:
            what = (
                f"{other} has another data set in {data.directory} than "
                f"{observed.host(0)}: their manifests differ"
            )
            mend = "copy the same data set to all hosts"
            yield Finding("fault", "other data set", what, mend, "data")


def shards(observed: Observations) -> Iterator[Finding]:
    """Tell which shards are missing, damaged or locked where ranks need them."""
    for data in observed.data:
        for kind, (level, name, mend) in REMEDIES.items():
            for host, faults in _faults(observed, data, kind).items():
                told = names((one.shard for one in faults[1:]), 3)
                what = f"on {host}, {faults[0].text}"
                if len(faults) > 1:
                    what += f", and {len(faults) - 1} more like it ({told})"
                yield Finding(level, name, what, mend, "data")


def _faults(
    observed: Observations, data: DataSet, kind: str
) -> dict[str, list[ShardFault]]:
    found: dict[str, list[ShardFault]] = {}
    for seen in data.seen:
        if not seen.folder:  # that has been told
            continue
        for fault in seen.faults:
            if fault.kind == kind:
                found.setdefault(observed.host(seen.rank), []).append(fault)
    return found


def _hosts(observed: Observations, seen: list[DataReport]) -> str:
    return names(observed.host(one.rank) for one in seen)
