"""Checks before MPI starts; torch is not loaded here.

MPI starts first, as in a run: a launcher may not wait while large libraries load.
"""

import os
from dataclasses import dataclass, field

from fedapm_mpi.cluster import launch as launching
from fedapm_mpi.cluster.launchers.srun import mpi_type
from fedapm_mpi.doctor import launch_env as environment


@dataclass(frozen=True, kw_only=True)
class InstalledLaunchers:
    """Launchers and MPI library on the machine of rank 0, before MPI starts."""

    library: str | None = None
    """The MPI library that Python loads."""

    programs: list[tuple[str, str]] = field(default_factory=list)
    """Launchers of MPI libraries, path and MPI implementation."""

    first: str | None = None
    """Path of the launcher that the command ``mpiexec`` starts."""

    slurm_types: list[str] = field(default_factory=list)
    """Types that ``srun --mpi`` supports; only known inside a step."""


def installed_launchers() -> InstalledLaunchers:
    """Find the launchers and the MPI library, without starting MPI."""
    return InstalledLaunchers(
        library=mpi_library()[0],
        programs=list(launching.programs()),
        first=launching.first_program(),
        slurm_types=_slurm_types(),
    )


def run_preflight() -> str | None:
    """Return why MPI may end the job before the first check, if so."""
    library = mpi_library()[0]
    if library is None:
        return None
    kind = launching.mpi_implementation(library)
    launcher = environment.started_by(os.environ)
    unsuitable = environment.mismatch(kind, launcher, environment.pmi_mode(os.environ))
    if unsuitable is None:
        return None
    return (
        f"{library} may not start under {unsuitable}: if MPI ends the job now, that is "
        f"why; start ranks by srun --mpi={mpi_type(kind)}, or by the library's own "
        "mpiexec, which fedapm launch finds"
    )


def mpi_library() -> tuple[str | None, str | None]:
    """Return the name of the MPI library, and why there is none; do not start it."""
    setting = os.environ.setdefault("MPI4PY_RC_INITIALIZE", "0")
    try:
        from fedapm_mpi.comm.mpi import library
    except (ImportError, RuntimeError) as error:
        return None, str(error).partition("\n")[0]
    finally:
        if setting == "0":
            os.environ.pop("MPI4PY_RC_INITIALIZE")
    return library(), None


def _slurm_types() -> list[str]:
    if environment.started_by(os.environ) != "srun":
        return []
    try:
        return launching.mpi_types("srun")
    except OSError:
        return []
