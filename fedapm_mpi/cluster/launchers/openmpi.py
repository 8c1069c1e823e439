"""The launcher of Open MPI."""

import os

from fedapm_mpi.cluster.launchers.base import Job, launchers


@launchers.register("openmpi")
def openmpi(program: str, job: Job, library: str) -> list[str]:
    """Start ranks that may use all of their cores.

    By default Open MPI binds each rank, with all its threads, to one core, and outside
    a scheduler it refuses more ranks than there are cores.
    """
    command = [program, "-n", str(job.ranks), "--bind-to", "none"]
    if job.ranks_per_node is not None:
        command += ["--map-by", f"ppr:{job.ranks_per_node}:node"]
    if not job.inside_scheduler():
        command.append("--oversubscribe")
    if os.geteuid() == 0:  # mostly in containers
        command.append("--allow-run-as-root")
    return command
