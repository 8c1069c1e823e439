"""Hydra, the launcher of MPICH and MVAPICH."""

from fedapm_mpi.cluster.launchers.base import Job, launchers


@launchers.register("mpich")
def mpich(program: str, job: Job, library: str) -> list[str]:
    """Start ranks that no core is given to, as Hydra does by itself."""
    command = [program, "-n", str(job.ranks)]
    if job.ranks_per_node is not None:
        command += ["-ppn", str(job.ranks_per_node)]
    return command
