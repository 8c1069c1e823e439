"""The whole examination: all ranks tell of themselves, then all probes, then checks."""

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


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A data set, and how its clients are placed on ranks."""

    directory: str
    placement: PluginConfig = field(default_factory=lambda: {"name": "cost"})
    clients: int | None = None
    """So many of the first clients count; `None` for all."""


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """What is to be examined."""

    subjects: Sequence[Subject] = ()
    threads: int | Literal["auto"] | None = None
    """Threads of a rank by the configuration."""

    device: str = "cpu"
    scratch: str | None = None
    folder: Path = Path()
    megabytes: float = 8.0
    timeout: float = 60.0
    json: Path | None = None


def observe(
    comm: Communicator,
    order: DoctorOptions,
    launchers: InstalledLaunchers,
    watch: Watchdog,
) -> Observations | None:
    """Look at everything; return it on the server. A collective call."""
    ranks = gather_rank_info(comm, watch)
    measured = collectives.measure(comm, order.megabytes, watch)
    clocks = collectives.clock_offsets(comm, watch)
    shared = folder.probe(comm, order.folder, watch)
    sets = [
        data.probe(comm, one.directory, one.placement, one.clients, watch)
        for one in order.subjects
    ]
    watch.step("making the report")
    if ranks is None:
        return None
    return Observations(
        ranks=ranks,
        launchers=launchers,
        threads=_threads(order, ranks),
        device=order.device,
        scratch=order.scratch,
        folder=str(order.folder),
        shared=shared,
        measured=measured,
        clocks=clocks,
        data=[one for one in sets if one is not None],
    )


def _threads(order: DoctorOptions, ranks: Sequence[RankInfo]) -> int | None:
    """Return the threads of a rank by the configuration, if there is one."""
    if order.threads != "auto":
        return order.threads
    working = client_ranks(len(ranks))
    nodes = [one.node if one.rank in working else -1 for one in ranks]
    return max_threads_per_rank([one.cores for one in ranks], nodes)


def gather_rank_info(comm: Communicator, watch: Watchdog) -> list[RankInfo] | None:
    """Return what every rank tells of itself, on the server; a collective call."""
    watch.step("telling of itself")
    told = comm.gather_object(collect(comm).plain())
    return (
        [RankInfo.from_plain(one) for one in told]
        if comm.rank == SERVER and told
        else None
    )


def run_all_checks(observed: Observations, order: DoctorOptions) -> int:
    """Print the report, write it down if asked, and return the exit code."""
    from fedapm_mpi.doctor.report import show, write

    findings: list[Finding] = run_checks(observed)
    if order.json is not None:
        write(order.json, observed, findings)
    return show(observed, findings)
