"""Where a run's numbers come from, as its provenance.json says."""

import hashlib
import json
import os
import socket
import sys

import torch

import fedapm_mpi
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.training.runner import train
from tests.support.processes.cli_runs import experiment


def test_what_is_recorded_of_a_run(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_STEP_NAME", "not recorded")
    monkeypatch.setattr(sys, "argv", ["fedapm", "train", "c.yaml"])
    config = validate(experiment(toy["features"], rounds=1, threads=1), "test")
    train(Serial(), config, directory=tmp_path / "run", progress="none")
    found = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert found["fedapm_mpi"] == fedapm_mpi.__version__
    assert found["command_line"] == ["fedapm", "train", "c.yaml"]
    assert found["packages"]["torch"] == torch.__version__
    assert found["job"] == {"SLURM_JOB_ID": "17"}
    assert found["mpi_library"] is None
    assert found["threads"] == 1
    raw = (toy["features"] / "manifest.json").read_bytes()
    assert found["manifest"] == {
        "directory": str(toy["features"]),
        "dataset": "toy",
        "sha256": hashlib.sha256(raw).hexdigest(),
    }
    (rank,) = found["ranks"]
    assert rank["host"] == socket.gethostname()
    assert rank["pid"] == os.getpid()
    assert sorted(rank["cores"]) == sorted(os.sched_getaffinity(0))
    assert rank["device"] == "cpu"
    assert rank["processor_model"] == found["processor_model"]
    assert found["kernels"]["kernels"] == "native"
    assert found["kernels"]["torch_capability"] == found["processor"]
    assert found["clients_per_rank"] == [8]
