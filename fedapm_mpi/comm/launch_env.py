"""What the environment says of the launcher that started this process; no MPI here."""

import os

SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PALS_SIZE")
RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PALS_RANKID", "PMIX_RANK", "SLURM_PROCID")


def launched_size() -> tuple[int, str | None]:
    """Return how many ranks a launcher says it started, and which variable says so.

    The MPI launchers' variables come first: mpiexec inside a SLURM step sees the step
    of its own proxies. ``SLURM_NTASKS`` alone is set in any batch script, even without
    a launcher, and says nothing.
    """
    for name in SIZES:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name]), name
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "")
    if "SLURM_STEP_ID" in os.environ and tasks.isdigit():
        return int(tasks), "SLURM_STEP_NUM_TASKS"
    return 1, None


def launched_rank() -> int:
    """Return this process's rank by the launcher's word; 0 where there is none."""
    if launched_size()[0] == 1:
        return 0
    for name in RANKS:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0
