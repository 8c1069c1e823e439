"""Fixtures that unit tests of several packages use."""

from hashlib import sha256

import numpy as np
import pytest

from tests.support.preparation import N
from tests.support.scaling_study import laid_out, pretend


@pytest.fixture
def origin(tmp_path):
    """Make a source in which a sample's number can be told from its input."""
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
