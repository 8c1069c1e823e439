"""Hydra, the launcher of MPICH and MVAPICH."""

from fedapm_mpi.cluster.launchers.base import Job, launchers


@launchers.register("mpich")
def mpich(program: str, job: Job, library: str) -> list[str]:
    """Start ranks that are bound to no core, as is Hydra's default."""
    command = [program, "-n", str(job.ranks)]
    if job.ranks_per_node is not None:
        command += ["-ppn", str(job.ranks_per_node)]
    return command
