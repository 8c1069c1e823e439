"""The interface of launchers."""

import os
from dataclasses import dataclass
from typing import Protocol

from fedapm_mpi.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Job:
    """The ranks to start."""

    ranks: int
    """Number of all ranks."""

    ranks_per_node: int | None = None
    """Ranks on each node; `None` leaves it to the launcher."""

    cores: int = 1
    """Cores for each rank."""

    mpi_type: str = "auto"
    """Value of srun's ``--mpi``, such as ``pmi2``."""

    gpu_binding: str | None = None
    """Value of srun's ``--gpu-bind``; `None` to leave it out."""

    def inside_scheduler(self) -> bool:
        """Return whether a scheduler decides where ranks run."""
        marks = ("SLURM_JOB_ID", "PBS_NODEFILE", "LSB_JOBID", "COBALT_JOBID")
        return any(os.environ.get(mark) for mark in marks)


class Launcher(Protocol):
    """Returns the command that starts a job's ranks, to which the program is added."""

    def __call__(self, program: str, job: Job, library: str) -> list[str]:
        """Return the words of the command.

        Parameters
        ----------
        program
            Path of the launcher.
        job
            The ranks to start.
        library
            Kind of the ranks' MPI library, see
            `fedapm_mpi.cluster.launch.mpi_implementation`.
        """
        ...


launchers: Registry[Launcher] = Registry("launcher", "fedapm_mpi.cluster.launchers")
