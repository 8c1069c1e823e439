"""Run all diagnostics: collect rank information, run probes, evaluate checks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.config.schema import PluginConfig
from fedapm_mpi.doctor.checks import run_checks
from fedapm_mpi.doctor.findings import Finding, Observations
from fedapm_mpi.doctor.preflight import InstalledLaunchers
from fedapm_mpi.doctor.probes import collectives, data
from fedapm_mpi.doctor.probes import filesystem as folder
from fedapm_mpi.doctor.rank_info import RankInfo, collect
from fedapm_mpi.doctor.watchdog import Watchdog
from fedapm_mpi.placements.base import client_ranks
from fedapm_mpi.utils.affinity import max_threads_per_rank
from fedapm_mpi.utils.kernels import NATIVE


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A data set, and how its clients are placed on ranks."""

    directory: str
    placement: PluginConfig = field(default_factory=lambda: {"name": "cost"})
    clients: int | None = None
    """Number of first clients that count; `None` for all."""


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """What to check, and how."""

    subjects: Sequence[Subject] = ()
    threads: int | Literal["auto"] | None = None
    """Threads of a rank by the configuration."""

    device: str = "cpu"
    kernels: str = NATIVE
    scratch: str | None = None
    folder: Path = Path()
    megabytes: float = 8.0
    timeout: float = 60.0
    json: Path | None = None


def observe(
    comm: Communicator,
    options: DoctorOptions,
    launchers: InstalledLaunchers,
    watch: Watchdog,
) -> Observations | None:
    """Collect all observations; return them on the server. A collective call."""
    ranks = gather_rank_info(comm, watch)
    measured = collectives.measure(comm, options.megabytes, watch)
    clocks = collectives.clock_offsets(comm, watch)
    shared = folder.probe(comm, options.folder, watch)
    sets = [
        data.probe(comm, one.directory, one.placement, one.clients, watch)
        for one in options.subjects
    ]
    watch.step("making the report")
    if ranks is None:
        return None
    return Observations(
        ranks=ranks,
        launchers=launchers,
        threads=_threads(options, ranks),
        device=options.device,
        kernels=options.kernels,
        scratch=options.scratch,
        folder=str(options.folder),
        shared=shared,
        measured=measured,
        clocks=clocks,
        data=[one for one in sets if one is not None],
    )


def _threads(options: DoctorOptions, ranks: Sequence[RankInfo]) -> int | None:
    """Return the threads of a rank by the configuration; `None` without one."""
    if options.threads != "auto":
        return options.threads
    working = client_ranks(len(ranks))
    nodes = [one.node if one.rank in working else -1 for one in ranks]
    return max_threads_per_rank([one.cores for one in ranks], nodes)


def gather_rank_info(comm: Communicator, watch: Watchdog) -> list[RankInfo] | None:
    """Return the information on all ranks on the server; a collective call."""
    watch.step("collecting rank information")
    gathered = comm.gather_object(collect(comm).plain())
    return (
        [RankInfo.from_plain(one) for one in gathered]
        if comm.rank == SERVER and gathered
        else None
    )


def run_all_checks(observed: Observations, options: DoctorOptions) -> int:
    """Run all checks, print and write the report, and return the exit code."""
    from fedapm_mpi.doctor.report import show, write

    findings: list[Finding] = run_checks(observed)
    if options.json is not None:
        write(options.json, observed, findings)
    return show(observed, findings)
