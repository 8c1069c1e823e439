"""FedAlt where FedAPM comes to rest, and it does not."""

import pytest

from tests.support.oracles.in_memory_federation import (
    Federation,
    alternating,
)
from tests.support.oracles.quadratic import Quadratic


@pytest.fixture
def quadratic():
    return Quadratic()


def error_after(algorithm, quadratic, rounds):
    federation = Federation(algorithm, quadratic)
    federation.run(rounds)
    return federation.error()


@pytest.mark.parametrize(
    ("step", "work", "least"), [(0.5, 5, 2e-2), (0.5, 20, 5e-2), (0.1, 20, 2e-2)]
)
def test_fedalt_stalls_away_from_the_minimiser(quadratic, step, work, least):
    federation = Federation(alternating(step, work), quadratic)
    federation.run(round(1_500 / step) // work)
    stalled = federation.error()
    assert stalled > least
    federation.run(round(1_500 / step) // work)
    assert federation.error() == pytest.approx(stalled, rel=1e-3)


def test_fedalt_with_one_step_is_unbiased(quadratic):
    assert error_after(alternating(1.0, 1), quadratic, 3_000) < 1e-10
