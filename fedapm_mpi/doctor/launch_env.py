"""The launcher of a process, from its environment variables."""

from collections.abc import Mapping
from pathlib import Path

from fedapm_mpi.cluster.launch import STARTED_BY
from fedapm_mpi.cluster.launchers.srun import mpi_type

LAUNCHER_VARIABLES = (
    "PMI_",
    "PMIX_",
    "PALS_",
    "SLURM_MPI_TYPE",
    "SLURM_STEP_NUM_TASKS",
)
"""Prefixes of the variables by which ranks find each other."""

LIBRARIES = ("libmpi.so", "libmpich.so", "libmpi_cray.so")
"""Prefixes of the file names of MPI libraries."""


def started_by(variables: Mapping[str, str]) -> str | None:
    """Return the kind of launcher that started this process; `None` for none.

    It is srun, or the MPI implementation whose mpiexec it was, see
    `cluster.launch.mpi_implementation`. Hydra is called mpich, whether of MPICH or of
    Intel MPI. An mpiexec inside a SLURM job starts its helpers by srun, so its own
    variables have precedence.
    """
    if "OMPI_COMM_WORLD_SIZE" in variables:
        return "openmpi"
    if "PMI_RANK" in variables and "MPI_LOCALNRANKS" in variables:
        return "mpich"
    if "PALS_RANKID" in variables:
        return "cray"
    if "SLURM_STEP_ID" in variables and "SLURM_STEP_NUM_TASKS" in variables:
        return "srun" if "SLURM_PROCID" in variables else None
    return "mpich" if "PMI_RANK" in variables else None


def pmi_mode(variables: Mapping[str, str]) -> str | None:
    """Return the PMI of the ranks: pmix, pmi2, pmi, cray_shasta; `None` without one."""
    if "PMIX_RANK" in variables:
        return "pmix"
    if started_by(variables) == "srun":
        has_pmi = "PMI_RANK" in variables or "PALS_RANKID" in variables
        return variables.get("SLURM_MPI_TYPE", "pmi2") if has_pmi else None
    if "PALS_RANKID" in variables:
        return "pals"
    return "pmi" if "PMI_RANK" in variables else None


def launcher_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which ranks find each other."""
    return {
        k: variables[k] for k in sorted(variables) if k.startswith(LAUNCHER_VARIABLES)
    }


def mismatch(kind: str, launcher: str | None, pmi: str | None) -> str | None:
    """Return the launcher if it does not suit the MPI library; `None` if it does.

    An unknown launcher counts as suitable.
    """
    if launcher == "srun":
        wanted = mpi_type(kind)
        if kind in STARTED_BY and pmi != wanted:
            return f"srun --mpi={pmi or 'none'}"
    elif launcher and launcher not in STARTED_BY.get(kind, (launcher,)):
        return f"the mpiexec of {name_of(launcher)}"
    return None


def name_of(kind: str) -> str:
    """Return the usual name of an MPI implementation."""
    names = {
        "mpich": "MPICH",
        "openmpi": "Open MPI",
        "intel": "Intel MPI",
        "cray": "Cray MPICH",
        "mvapich": "MVAPICH",
    }
    return names.get(kind, kind)


def libraries_in(folders: str) -> list[str]:
    """Return the first MPI library in each folder of a search path.

    Parameters
    ----------
    folders
        As in ``LD_LIBRARY_PATH``.
    """
    found = []
    for folder in dict.fromkeys(filter(None, folders.split(":"))):
        names = [p for name in LIBRARIES for p in sorted(Path(folder).glob(f"{name}*"))]
        found += [str(path.resolve()) for path in names[:1]]
    return list(dict.fromkeys(found))


def libraries_mapped(maps: str) -> list[str]:
    """Return the MPI libraries that a process has loaded, from ``/proc/PID/maps``."""
    paths = {line.split(maxsplit=5)[5] for line in maps.splitlines() if "/lib" in line}
    return sorted(p for p in paths if Path(p).name.startswith(LIBRARIES))
