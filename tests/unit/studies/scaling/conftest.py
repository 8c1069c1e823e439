"""What several test files of this package share."""

import pytest

from tests.support.scaling_study import laid_out, pretend


@pytest.fixture
def study(tmp_path, toy):
    """A study whose points took 0.4 s on one rank, and half of it on twice as many."""
    study, points = laid_out(tmp_path, toy["features"])
    for point in points:
        ideal = 0.4 / point.client_ranks if point.kind == "strong" else 0.1
        clients = point.config.clients or 8
        pretend(point, ideal * (1 + point.repetition), point.kind + "0" * 60, clients)
    return study, points
