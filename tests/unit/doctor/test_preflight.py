"""What is known before MPI starts: the library, and launchers that do not suit it."""

import os
import subprocess
import sys

import pytest

from fedapm_mpi.doctor import preflight

SRUN = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}


@pytest.fixture
def started(monkeypatch):
    """Return a function: this process is started by srun, with some MPI library."""
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"]})

    def act(library, **variables):
        monkeypatch.setattr(preflight, "mpi_library", lambda: (library, None))
        os.environ.update(SRUN, **variables)

    return act


def test_a_library_that_the_launcher_does_not_suit_is_warned_of(started):
    started("MPICH Version: 5.0.2")
    reported = preflight.run_preflight()
    assert reported.startswith(
        "MPICH Version: 5.0.2 may not start under srun --mpi=none: "
    )
    assert "start ranks by srun --mpi=pmi2" in reported


def test_one_that_suits_is_not(started):
    started("MPICH Version: 5.0.2", PMI_RANK="0", PMI_SIZE="2", PMI_FD="5")
    assert preflight.run_preflight() is None


def test_without_a_library_there_is_nothing_to_warn_of(started):
    started(None)
    assert preflight.run_preflight() is None


def test_types_of_srun_are_asked_for_within_a_step_alone(started, monkeypatch):
    asked = []
    monkeypatch.setattr(
        preflight.launching, "mpi_types", lambda program: asked.append(program) or ["x"]
    )
    monkeypatch.setattr(
        preflight.launching, "programs", lambda: {"/a/mpiexec": "mpich"}.items()
    )
    monkeypatch.setattr(preflight.launching, "first_program", lambda: "/a/mpiexec")
    monkeypatch.setattr(preflight, "mpi_library", lambda: ("MPICH", None))
    found = preflight.installed_launchers()
    assert (found.slurm_types, asked) == ([], [])
    started("MPICH")
    found = preflight.installed_launchers()
    assert (found.library, found.slurm_types, asked) == ("MPICH", ["x"], ["srun"])
    assert found.programs == [("/a/mpiexec", "mpich")]
    assert found.first == "/a/mpiexec"


def test_the_library_is_named_without_starting_it():
    code = (
        "import os, sys\n"
        "from fedapm_mpi.doctor.preflight import mpi_library\n"
        "name, why = mpi_library()\n"
        "assert (name is None) != (why is None), (name, why)\n"
        "assert 'MPI4PY_RC_INITIALIZE' not in os.environ\n"
        "if name is not None:\n"
        "    from mpi4py import MPI\n"
        "    assert not MPI.Is_initialized()\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
