"""Fixtures that unit tests of several packages use."""

import shutil
from hashlib import sha256

import numpy as np
import pytest

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.training.runner import train
from tests.support.preparation import N
from tests.support.processes.cli_runs import experiment
from tests.support.scaling_study import laid_out, pretend
from tests.support.user_loggers import CSV_LOGGER


@pytest.fixture
def origin(tmp_path):
    """Make a source in which a sample's number follows from its input."""
    path = tmp_path / "made.npz"
    np.savez(
        path,
        x_number=np.arange(N)[:, None],
        y=np.arange(N) % 3,
        client=np.arange(N) // 20 + 100,
        segment=np.arange(N) // 4,
        split=(np.arange(N) % 5 == 0).astype(int),
    )
    return path


@pytest.fixture
def study(tmp_path, toy):
    """A study whose points took 0.4 s on one rank, and half of it on twice as many."""
    study, points = laid_out(tmp_path, toy["features"])
    for point in points:
        ideal = 0.4 / point.client_ranks if point.kind == "strong" else 0.1
        clients = point.config.clients or 8
        digest = sha256(point.kind.encode()).hexdigest()
        pretend(point, ideal * (1 + point.repetition), digest, clients)
    return study, points


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CSV_LOGGER)
    return path


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory):
    root = tmp_path_factory.mktemp("damaged")
    values = experiment(toy["features"], rounds=2, checkpoint={"every": 1})
    config = validate(values, "t")
    train(Serial(), config, directory=root / "run", progress="none")
    return config, root / "run"


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained[1], tmp_path / "run")
    return tmp_path / "run"
