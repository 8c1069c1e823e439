"""SLURM's own launcher."""

from fedapm_mpi.cluster.launchers.base import Job, launchers

MPI_TYPES = {"openmpi": "pmix", "cray": "cray_shasta"}
"""Values of ``--mpi`` by kind of library; the others, MPICH and its kin, use pmi2."""


def mpi_type(library: str) -> str:
    """Return the value of srun's ``--mpi`` for a kind of library."""
    return MPI_TYPES.get(library, "pmi2")


@launchers.register("srun")
def srun(program: str, job: Job, library: str) -> list[str]:
    """Start a step of the allocation."""
    kind = mpi_type(library) if job.mpi_type == "auto" else job.mpi_type
    # Without --kill-on-bad-exit the others would wait for a rank that was killed.
    command = [
        program,
        f"--mpi={kind}",
        "--kill-on-bad-exit=1",
        f"--ntasks={job.ranks}",
    ]
    if job.ranks_per_node is not None:
        command.append(f"--ntasks-per-node={job.ranks_per_node}")
    # srun does not take this over from sbatch by itself since SLURM 22.05.
    command.append(f"--cpus-per-task={job.cores}")
    if job.gpu_binding is not None:
        command.append(f"--gpu-bind={job.gpu_binding}")
    return command
