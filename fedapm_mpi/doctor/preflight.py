"""What is looked at before MPI is started; torch is not loaded here.

MPI comes first, as in a run: a launcher may not wait while large libraries are loaded.
"""

import os
from dataclasses import dataclass, field

from fedapm_mpi.cluster import launch as launching
from fedapm_mpi.cluster.launchers.srun import mpi_type
from fedapm_mpi.doctor import launch_env as environment


@dataclass(frozen=True, kw_only=True)
class InstalledLaunchers:
    """What rank 0 finds on its machine before MPI is started."""

    library: str | None = None
    """The MPI library that Python loads."""

    programs: list[tuple[str, str]] = field(default_factory=list)
    """Launchers of MPI libraries, path and kind."""

    first: str | None = None
    """The one of them that the word mpiexec starts."""

    slurm_types: list[str] = field(default_factory=list)
    """What ``srun --mpi`` knows, asked for inside a step only."""


def installed_launchers() -> InstalledLaunchers:
    """Return which launchers and which MPI library there are; MPI is not started."""
    return InstalledLaunchers(
        library=mpi_library()[0],
        programs=list(launching.programs()),
        first=launching.first_program(),
        slurm_types=_slurm_types(),
    )


def run_preflight() -> str | None:
    """Return what may let MPI end the job before anything is examined, if so."""
    told = mpi_library()[0]
    if told is None:
        return None
    kind = launching.mpi_implementation(told)
    launcher = environment.started_by(os.environ)
    why = environment.mismatch(kind, launcher, environment.pmi_mode(os.environ))
    if why is None:
        return None
    return (
        f"{told} may not start under {why}: if MPI ends the job now, that is why; "
        f"start ranks by srun --mpi={mpi_type(kind)}, or by the library's own "
        "mpiexec, which fedapm launch finds"
    )


def mpi_library() -> tuple[str | None, str | None]:
    """Return name and version of the MPI library, or why there is none; not started."""
    asked = os.environ.setdefault("MPI4PY_RC_INITIALIZE", "0")
    try:
        from fedapm_mpi.comm.mpi import library
    except (ImportError, RuntimeError) as error:
        return None, str(error).partition("\n")[0]
    finally:
        if asked == "0":
            os.environ.pop("MPI4PY_RC_INITIALIZE")
    return library(), None


def _slurm_types() -> list[str]:
    if environment.started_by(os.environ) != "srun":
        return []
    try:
        return launching.mpi_types("srun")
    except OSError:
        return []
