"""The report of the doctor: tables and findings, and a JSON file."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedapm_mpi.cluster.launch import mpi_implementation
from fedapm_mpi.doctor.checks.affinity import gpu_map
from fedapm_mpi.doctor.findings import LEVELS, Finding, Observations, exit_code, numbers
from fedapm_mpi.doctor.launch_env import mismatch, name_of
from fedapm_mpi.errors import ConfigError, WriteError
from fedapm_mpi.utils.atomic_io import write_text
from fedapm_mpi.utils.terminal import echo, print_table

MAX_TABLE_ROWS = 40
"""Maximum number of rows of a table that are printed."""


def show(observed: Observations, findings: Sequence[Finding]) -> int:
    """Print tables, lines and findings; return the exit code."""
    _show_launcher(observed)
    _show_table("Hosts", HOSTS, _hosts(observed))
    _show_table("Ranks", RANKS, _ranks(observed))
    _show_versions(observed)
    _show_measured(observed)
    _show_folder(observed)
    _show_data(observed)
    for finding in findings:
        echo(str(finding))
    echo(f"doctor: {_summary(findings)}")
    return exit_code(findings)


def write(path: Path, observed: Observations, findings: Sequence[Finding]) -> None:
    """Write all observations and findings as JSON.

    Raises
    ------
    ConfigError
        If the file cannot be written.
    """
    try:
        write_text(path, json.dumps(plain(observed, findings), indent=1) + "\n")
    except WriteError as error:
        reason = str(error).partition(";")[0]
        msg = f"--json: {reason}; give another file"
        raise ConfigError(msg) from error


def plain(observed: Observations, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return all observations and findings as plain values."""
    values = asdict(observed)
    for rank, gpu in zip(values["ranks"], gpu_map(observed), strict=True):
        rank["gpu"] = gpu
    return {
        "exit_code": exit_code(findings),
        "findings": [one.plain() for one in findings],
        **values,
    }


def _show_launcher(observed: Observations) -> None:
    one = observed.ranks[0]
    echo(f"MPI library: {one.library or 'none'}")
    echo(f"loaded from: {', '.join(one.libraries) or '–'}")
    launcher = "none"
    if one.launcher is not None:
        launcher = "srun" if one.launcher == "srun" else _mpiexec(one.launcher)
        launcher += f", which started {one.launched} rank(s)"
        if one.library is not None:
            suits = (
                mismatch(mpi_implementation(one.library), one.launcher, one.pmi) is None
            )
            launcher += f"; {'it suits' if suits else 'it does not suit'} the library"
    echo(f"launcher:    {launcher}")
    short = ", ".join(f"{k}={v}" for k, v in one.variables.items() if len(v) < 24)
    echo(f"PMI:         {one.pmi or 'none'}" + (f" ({short})" if short else ""))


def _mpiexec(kind: str) -> str:
    return f"mpiexec of {name_of(kind)}"


HOSTS = ("host", "ranks", "cores", "/dev/shm", "GPUs", "clock")


def _hosts(observed: Observations) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for ranks in observed.nodes().values():
        first = ranks[0]
        cores = numbers(core for one in ranks for core in one.cores)
        memory = "none"
        if first.memory_free is not None and first.memory_size is not None:
            memory = (
                f"{first.memory_free / 1e9:.1f} of {first.memory_size / 1e9:.1f} GB"
            )
        gpus = len({gpu for one in ranks for gpu in one.gpus})
        clock = f"{observed.clocks[first.rank]:+.3f} s" if observed.clocks else "–"
        ranks_here = numbers(one.rank for one in ranks)
        rows.append((first.host, ranks_here, cores, memory, gpus, clock))
    return rows


RANKS = ("rank", "host", "local", "cores", "OMP", "torch threads", "GPU")


def _ranks(observed: Observations) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for one, gpu in zip(observed.ranks, gpu_map(observed), strict=True):
        local = [r.rank for r in observed.nodes()[one.node]].index(one.rank)
        rows.append(
            (
                str(one.rank),
                one.host,
                local,
                numbers(one.cores),
                one.omp_threads,
                one.torch_threads,
                gpu,
            )
        )
    return rows


def _show_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    shown = list(rows[:MAX_TABLE_ROWS])
    if len(rows) > MAX_TABLE_ROWS:
        rest = f"… {len(rows) - MAX_TABLE_ROWS} more"
        shown.append((rest, *("" for _ in header[1:])))
    print_table(title, header, shown)


def _show_versions(observed: Observations) -> None:
    one = observed.ranks[0]
    versions = ", ".join(f"{k} {v or '–'}" for k, v in one.versions.items())
    revision = f", commit {one.revision[:12]}" if one.revision else ""
    echo(f"versions: {versions}; source {one.source}{revision}")


def _show_measured(observed: Observations) -> None:
    measured = observed.measured
    if measured is None or len(observed.ranks) == 1:
        return
    rows: list[tuple[object, ...]] = [
        (name, f"{seconds * 1e6:.0f} us") for name, seconds in measured.seconds.items()
    ]
    rows += [
        (f"{name} of {measured.megabytes:g} MB", f"{rate / 1e6:.0f} MB/s")
        for name, rate in measured.bytes_per_second.items()
    ]
    print_table("Collectives, median", ("collective", "measured"), rows)


def _show_folder(observed: Observations) -> None:
    if not observed.shared:
        return
    reports = observed.shared
    answers = [
        ("written by all", all(one.refused is None for one in reports)),
        ("seen by all", all(one.seconds is not None for one in reports)),
        ("renaming seen", all(one.renamed is not None for one in reports)),
        ("locks work", all(one.lock == "seen" for one in reports)),
        ("HDF5 opened together", all(one.hdf5 is None for one in reports)),
    ]
    listed = ", ".join(f"{name}: {'yes' if good else 'no'}" for name, good in answers)
    echo(f"folder {observed.folder}: {listed}")


def _show_data(observed: Observations) -> None:
    for one in observed.data:
        if one.error is None:
            faults = sum(len(report.faults) for report in one.seen)
            shards = sum(report.shards for report in one.seen)
            echo(
                f"data {one.directory}: {shards} shard(s) checked on "
                f"{len(observed.nodes())} node(s), {faults} fault(s)"
            )


def _summary(findings: Sequence[Finding]) -> str:
    counts = {level: sum(one.level == level for one in findings) for level in LEVELS}
    parts = [f"{n} {level}{'s' if n > 1 else ''}" for level, n in counts.items() if n]
    return ", ".join(parts) or "all is well"
