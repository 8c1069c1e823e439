"""Lines through the logarithm of gaps, against gaps made of known lines."""

from math import inf, log

import numpy as np
import pytest

from fedapm_mpi.analysis import _line_fits as fits

T = np.arange(0.0, 60.0)


def test_least_squares_against_numpy():
    rng = np.random.default_rng(0)
    y = 3 - 0.2 * T + rng.normal(size=len(T)) / 10
    fit = fits.fit_line(T, y)
    slope, intercept = np.polyfit(T, y, 1)
    assert fit.slope == pytest.approx(slope)
    np.testing.assert_allclose(fit.misfits, y - slope * T - intercept, atol=1e-12)
    assert fit.rms == pytest.approx(np.std(y - slope * T))
    assert fit.sum_xx == pytest.approx(((T - T.mean()) ** 2).sum())
    assert fit.fall == pytest.approx(-slope * np.ptp(T))


def test_slopes_stay_within_their_bounds():
    assert fits.fit_line(T, T).slope == 0
    assert fits.fit_line(T, T).fall == 0
    assert fits.fit_line(T, -3 * T, steepest=2.0).slope == -2


@pytest.mark.parametrize("factor", [0.9, 0.5])
def test_a_linear_rate_is_a_straight_line(factor):
    pair = fits.fit_pair(T, 2 * factor**T, limit_known=True)
    assert pair.better is pair.straight
    assert pair.better.slope == pytest.approx(log(factor))
    assert pair.better.shift == inf


@pytest.mark.parametrize("power", [0.5, 2.0])
def test_a_power_law_is_a_bent_one(power):
    pair = fits.fit_pair(T, 3 * (T + 4) ** -power, limit_known=True)
    assert pair.better is pair.bent
    assert pair.better.slope == pytest.approx(-power, rel=1e-3)
    assert pair.better.shift == pytest.approx(4, rel=1e-2)


def test_an_unknown_limit_is_found():
    pair = fits.fit_pair(T[:30], 5 + 0.8 ** T[:30], limit_known=False)
    assert pair.better is pair.straight
    assert pair.better.slope == pytest.approx(log(0.8), rel=1e-3)
    assert pair.better.depth == pytest.approx(0.8**29, rel=1e-2)
    assert not pair.better.at_edge


def test_values_that_do_not_show_their_limit_say_so():
    pair = fits.fit_pair(T, 100 - T, limit_known=False)
    assert pair.straight.at_edge
    assert pair.straight.error == inf


def test_where_a_floor_begins():
    rng = np.random.default_rng(1)
    gap = 0.5**T + 1e-6 * rng.uniform(0.8, 1.2, len(T))
    start = fits.start_of_floor(T, gap)
    assert 0.5 ** T[start] == pytest.approx(1e-5, rel=1.0), "ten times above the floor"
    assert fits.start_of_floor(T, 0.5**T) == len(T)
    assert fits.start_of_floor(T[:5], 0.5 ** T[:5]) == 5


def test_misfits_that_hang_together_count_for_fewer_points():
    rng = np.random.default_rng(2)
    scattered = fits.fit_line(T, rng.normal(size=len(T)))
    waves = fits.fit_line(T, np.sin(T / 8))
    assert scattered.independent > 3 * waves.independent
    assert waves.independent >= 3
