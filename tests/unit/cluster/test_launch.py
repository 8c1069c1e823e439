"""Which launcher is chosen, with programs that only say what they are."""

import os
import stat
import sys

import pytest

from fedapm_mpi.cluster import launch as launching
from fedapm_mpi.cluster.launch import command, mpi_implementation, select_launcher
from fedapm_mpi.cluster.launchers import Job, launchers
from fedapm_mpi.errors import ConfigError

HYDRA = "HYDRA build details:\n    Version: 4.0.2"
OPEN_MPI = "mpiexec (OpenRTE) 4.1.4"
INTEL = "Intel(R) MPI Library for Linux* OS, Version 2021.11"
ALONE = ("SLURM_JOB_ID", "SLURM_NTASKS", "PBS_NODEFILE", "LSB_JOBID", "COBALT_JOBID")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that puts a program which says something on the PATH."""
    for name in ALONE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(launching.sys, "executable", str(tmp_path / "bin" / "python"))

    def put(name: str, says: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{says}\nEND\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return put


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("MPICH Version: 5.0.2", "mpich"),
        ("Open MPI v5.0.11, package: ...", "openmpi"),
        ("mpirun (Open MPI) 5.0.11", "openmpi"),
        ("prterun (PRRTE) 3.0.5", "openmpi"),
        ("Intel(R) MPI Library 2021.11 for Linux* OS", "intel"),
        ("MPI VERSION    : CRAY MPICH version 8.1.28.15", "cray"),
        ("MVAPICH2 Version      :  2.3.7", "mvapich"),
        (HYDRA, "mpich"),
        ("something else", "unknown"),
    ],
)
def test_a_library_is_known_by_what_it_says(text, kind):
    assert mpi_implementation(text) == kind


def test_the_mpiexec_of_the_library_is_chosen_among_several(machine):
    machine("mpirun", OPEN_MPI)
    hydra = machine("mpiexec", HYDRA)
    assert select_launcher("mpich") == ("mpich", hydra)
    assert select_launcher("openmpi").name == "openmpi"


def test_the_mpiexec_in_the_folder_of_python_comes_first(machine):
    machine("mpiexec", HYDRA)
    neighbor = machine("bin/mpiexec", HYDRA)
    assert select_launcher("mpich").program == neighbor


def test_a_launcher_of_another_mpi_is_refused(machine):
    other = machine("mpiexec", OPEN_MPI)
    with pytest.raises(ConfigError) as caught:
        select_launcher("mpich")
    assert f"{other} (openmpi)" in str(caught.value)
    assert "mpich" in str(caught.value)


def test_no_launcher_at_all_is_reported(machine):
    with pytest.raises(ConfigError, match="found none"):
        select_launcher("mpich")


def test_an_unknown_launcher_is_refused_with_the_nearest(machine):
    with pytest.raises(ConfigError, match="did you mean 'openmpi'"):
        select_launcher("mpich", "opnmpi")


def test_srun_where_slurm_speaks_with_the_library(machine, monkeypatch):
    srun = machine("srun", "MPI plugin types are...\n\tnone\n\tpmi2\n")
    mpiexec = machine("mpiexec", HYDRA)
    open_mpi = machine("mpirun", OPEN_MPI)
    assert select_launcher("mpich") == ("mpich", mpiexec)  # not in a job
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert select_launcher("mpich") == ("srun", srun)
    assert select_launcher("openmpi") == ("openmpi", open_mpi)  # there is no pmix
    assert select_launcher("openmpi", "srun") == ("srun", srun)
    assert select_launcher("mpich", "mpiexec") == ("mpich", mpiexec)


def test_srun_gets_what_was_asked_for():
    job = Job(ranks=6, ranks_per_node=2, cores=4, gpu_binding="none")
    assert launchers.get("srun")("srun", job, "openmpi") == [
        "srun", "--mpi=pmix", "--kill-on-bad-exit=1", "--ntasks=6",
        "--ntasks-per-node=2", "--cpus-per-task=4", "--gpu-bind=none",
    ]  # fmt: skip
    job = Job(ranks=6, mpi_type="pmi2")
    assert "--mpi=pmi2" in launchers.get("srun")("srun", job, "cray")
    assert "--mpi=cray_shasta" in launchers.get("srun")("srun", Job(ranks=6), "cray")


def test_mpiexecs_get_what_was_asked_for(machine, monkeypatch):
    job = Job(ranks=6, ranks_per_node=2, cores=4)
    assert launchers.get("mpich")("m", job, "mpich") == ["m", "-n", "6", "-ppn", "2"]
    intel = launchers.get("intel")("m", job, "intel")
    assert intel[-3:] == ["-genv", "I_MPI_PIN_DOMAIN", "4:compact"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    words = ["m", "-n", "6", "--bind-to", "none", "--map-by", "ppr:2:node"]
    assert launchers.get("openmpi")("m", job, "openmpi") == [*words, "--oversubscribe"]
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert launchers.get("openmpi")("m", job, "openmpi") == words


def test_one_rank_needs_no_launcher():
    program = [sys.executable, "-m", "fedapm_mpi", "train", "x"]
    assert command(Job(ranks=1), ["train", "x"]) == program


def test_a_python_without_mpi_is_reported(monkeypatch):
    monkeypatch.setattr(launching, "library", lambda python: None)
    with pytest.raises(ConfigError, match="cannot load an MPI library"):
        command(Job(ranks=2), ["train", "x"])
