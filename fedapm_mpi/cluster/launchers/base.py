"""What a launcher must provide."""

import os
from dataclasses import dataclass
from typing import Protocol

from fedapm_mpi.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Job:
    """The ranks that are to be started."""

    ranks: int
    """How many in all."""

    ranks_per_node: int | None = None
    """How many on each node; `None` leaves it to the launcher."""

    cores: int = 1
    """Cores for each rank."""

    mpi_type: str = "auto"
    """How ``srun`` lets ranks find each other, such as ``pmi2``."""

    gpu_binding: str | None = None
    """What ``srun --gpu-bind`` gets; `None` says nothing of GPUs."""

    def inside_scheduler(self) -> bool:
        """Return whether a scheduler says where ranks may run."""
        marks = ("SLURM_JOB_ID", "PBS_NODEFILE", "LSB_JOBID", "COBALT_JOBID")
        return any(os.environ.get(mark) for mark in marks)


class Launcher(Protocol):
    """Returns the command that starts a job's ranks; the program follows it."""

    def __call__(self, program: str, job: Job, library: str) -> list[str]:
        """Return the words of the command.

        Parameters
        ----------
        program
            Path of the launcher.
        job
            What to start.
        library
            Kind of the ranks' MPI library, see
            `fedapm_mpi.cluster.launch.mpi_implementation`.
        """
        ...


launchers: Registry[Launcher] = Registry("launcher", "fedapm_mpi.cluster.launchers")
