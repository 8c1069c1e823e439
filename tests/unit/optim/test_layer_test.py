"""The result of the multiplier test, and its threshold."""

import math

import pytest

from fedapm_mpi.optim.layer_test import (
    LayerTest,
    Threshold,
    chi_squared_tail,
    chi_squared_threshold,
)


def layer(lm, clients=20, size=10):
    return LayerTest(size, clients, lm, float(size))


@pytest.mark.parametrize(
    ("degrees", "within"), [(2, 0.01), (10, 1e-3), (40, 5e-4), (200, 1e-4)]
)
def test_the_tail_is_that_of_chi_squared(degrees, within):
    """For an even number of degrees the tail is a Poisson sum."""
    for ratio in (0.2, 0.5, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0):
        half = ratio * degrees / 2
        logs = [k * math.log(half) - half - math.lgamma(k + 1)
                for k in range(degrees // 2)]  # fmt: skip
        exact = sum(map(math.exp, logs))
        assert abs(chi_squared_tail(ratio * degrees, degrees) - exact) < within


@pytest.mark.parametrize("level", [0.01, 0.05, 0.5])
@pytest.mark.parametrize(("clients", "size"), [(20, 1), (5, 200)])
def test_the_threshold_has_the_level_as_its_tail(level, clients, size):
    lm = Threshold(level=level).of(layer(9.0, clients, size))
    assert lm == chi_squared_threshold(level, size * (clients - 1))
    assert layer(lm, clients, size).p_value == pytest.approx(level, rel=1e-9)


def test_degrees_are_those_of_the_effective_size():
    one = LayerTest(10, 5, 1.5, 6.5)
    assert one.degrees == 6.5 * 4
    assert one.p_value == chi_squared_tail(1.5 * 26, 26)
    nothing = LayerTest(10, 5, 0.0, 0.0)
    assert nothing.p_value == 1.0
    assert Threshold(level=0.05).of(nothing) == 2.0
    assert Threshold(1.5).of(one) == 1.5
