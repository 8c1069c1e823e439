"""What the environment says of the launcher that started a rank."""

import pytest

from fedapm_mpi.doctor import launch_env as environment

HYDRA = {"PMI_RANK": "0", "PMI_SIZE": "2", "MPI_LOCALNRANKS": "2"}
STEP = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}
OMPI = {"OMPI_COMM_WORLD_SIZE": "2", "PMIX_RANK": "0"}


@pytest.mark.parametrize(
    ("variables", "launcher", "pmi"),
    [
        ({}, None, None),
        ({"SLURM_NTASKS": "6", "SLURM_PROCID": "0"}, None, None),
        (HYDRA, "mpich", "pmi"),
        (STEP | HYDRA, "mpich", "pmi"),
        (STEP, "srun", None),
        (STEP | {"PMI_RANK": "0", "SLURM_MPI_TYPE": "pmi2"}, "srun", "pmi2"),
        (STEP | {"PMIX_RANK": "0", "SLURM_MPI_TYPE": "pmix"}, "srun", "pmix"),
        (OMPI, "openmpi", "pmix"),
        (STEP | OMPI, "openmpi", "pmix"),
        ({"PALS_RANKID": "0"}, "cray", "pals"),
        ({"PMI_RANK": "0"}, "mpich", "pmi"),
    ],
)
def test_what_the_environment_says_of_the_launcher(variables, launcher, pmi):
    assert environment.started_by(variables) == launcher
    assert environment.pmi_mode(variables) == pmi


@pytest.mark.parametrize(
    ("kind", "launcher", "pmi", "expected"),
    [
        ("mpich", "srun", "pmi2", None),
        ("mpich", "srun", "pmix", "srun --mpi=pmix"),
        ("mpich", "srun", None, "srun --mpi=none"),
        ("openmpi", "srun", "pmi2", "srun --mpi=pmi2"),
        ("openmpi", "srun", "pmix", None),
        ("intel", "mpich", "pmi", None),
        ("openmpi", "mpich", "pmi", "the mpiexec of MPICH"),
        ("unknown", "mpich", "pmi", None),
        ("unknown", "srun", None, None),
        ("mpich", None, None, None),
    ],
)
def test_which_launcher_does_not_suit(kind, launcher, pmi, expected):
    assert environment.mismatch(kind, launcher, pmi) == expected
