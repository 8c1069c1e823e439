"""Fixtures that unit tests of several packages use."""

import numpy as np
import pytest

from tests.support.preparation import N


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
