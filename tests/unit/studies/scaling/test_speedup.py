"""Speed-up, efficiency and Amdahl's law against closed forms."""

import numpy as np
import pytest
from scipy.stats import t as student

from fedapm_mpi.studies.scaling import speedup
from fedapm_mpi.studies.scaling.speedup import band, t_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 30])
def test_quantiles_of_students_t(freedom):
    for level in (0.5, 0.95, 0.99):
        exact = student.ppf(0.5 + level / 2, freedom)
        assert t_quantile(freedom, level) == pytest.approx(exact, rel=1e-9)


def test_a_band_is_that_of_students_t():
    values = [1.0, 2.0, 4.0]
    low, high = student.interval(
        0.95, 2, np.mean(values), np.std(values, ddof=1) / 3**0.5
    )
    assert band(values) == pytest.approx((7 / 3, low, high))
    alone = band([3.0])
    assert alone.mean == 3
    assert np.isnan([alone.low, alone.high]).all()


@pytest.mark.parametrize("serial", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("ranks", [(1, 2, 16), (2, 4, 8)])
def test_amdahls_law_gives_its_serial_fraction(serial, ranks):
    """With a least of p0 ranks, what is serial there is a larger part of all."""
    times = {p: dict.fromkeys(range(3), serial + (1 - serial) / p) for p in ranks}
    there = serial / times[ranks[0]][0]
    for p, found in speedup.strong(times).items():
        gain = ranks[0] * times[ranks[0]][0] / times[p][0]
        assert found.speed_up == pytest.approx((gain, gain, gain))
        assert found.efficiency.mean == pytest.approx(gain / p)
        if p > ranks[0]:
            assert found.serial == pytest.approx(there, abs=1e-12)


def test_ratios_are_taken_within_a_repetition():
    """A machine that is slow for a whole repetition widens no band."""
    times = {1: {0: 1.0, 1: 2.0}, 4: {0: 0.5, 1: 1.0}}
    assert speedup.strong(times)[4].speed_up == pytest.approx((2, 2, 2))
    assert speedup.weak(times)[4].efficiency == pytest.approx((2, 2, 2))


def test_a_repetition_without_its_base_is_left_out():
    times = {1: {0: 1.0}, 4: {0: 0.5, 1: 9.0}}
    assert speedup.strong(times)[4].speed_up.mean == 2
