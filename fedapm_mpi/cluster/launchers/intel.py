"""The launcher of Intel MPI."""

from fedapm_mpi.cluster.launchers.base import Job, launchers


@launchers.register("intel")
def intel(program: str, job: Job, library: str) -> list[str]:
    """Start ranks, each on as many neighboring cores as it has threads."""
    command = [program, "-n", str(job.ranks)]
    if job.ranks_per_node is not None:
        command += ["-ppn", str(job.ranks_per_node)]
    return [*command, "-genv", "I_MPI_PIN_DOMAIN", f"{job.cores}:compact"]
