"""``fedapm verify`` from end to end."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.pipeline import plan, prepare
from fedapm_mpi.cli import verify as verify_command
from tests.support.preparation import command


def run(directory, *words):
    return command(verify_command, directory, *words)


@pytest.fixture
def made(tmp_path):
    """A data set of six clients in three shards, some of which lack an input."""
    rng = np.random.default_rng(1)
    acc, gyro = rng.normal(size=(2, 120, 6, 2)).astype(np.float32)
    raw = tmp_path / "raw.npz"
    np.savez(raw, x_acc=acc, x_gyro=gyro, y=np.arange(120) % 3,
             client=np.arange(120) // 20)  # fmt: skip
    values = {"shift": "missing", "seed": 4, "shards": 3, "val": 0.2}
    prepare(plan("arrays", values), raw, tmp_path / "to")
    return tmp_path / "to"


def test_a_sound_data_set(made, capsys):
    assert run(made) == 0
    out = capsys.readouterr().out
    assert out.count("as written and as the manifest says") == 3
    assert "clients 2 to 3, 40 samples" in out
    assert "no sample is in two splits or with two clients" in out


def test_clients_that_overlap_on_purpose(tmp_path, capsys):
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "raw.npz", x_a=rng.normal(size=(300, 2)), y=np.arange(300) % 3)
    values = {"clients": 5, "split": "official", "partitioner": "official-dirichlet"}
    prepare(plan("arrays", values), Path(tmp_path / "raw.npz"), tmp_path / "to")
    assert run(tmp_path / "to") == 0
    assert "samples are with several clients" in capsys.readouterr().out
