"""Rates of convergence where they are known: from eigenvalues, powers, closed forms."""

import math

import numpy as np
import pytest
import torch

from fedapm_mpi.analysis.convergence import fit_rate
from tests.support.oracles.in_memory_federation import (
    Federation,
    alternating,
    descending,
    lagrangian,
)
from tests.support.oracles.quadratic import Quadratic


def noisy(values, spread=0.1, seed=0):
    noise = np.random.default_rng(seed).normal(size=len(values))
    return np.asarray(values) * np.exp(spread * noise)


def assert_linear(rate, factor, rel=0.01):
    assert rate.kind == "linear", rate.describe()
    assert math.log(rate.factor) == pytest.approx(math.log(factor), rel=rel)
    assert rate.bic_difference < 0
    assert rate.misfit_linear < rate.misfit_sublinear
    assert math.isnan(rate.exponent)


def assert_sublinear(rate, exponent, rel=0.01):
    assert rate.kind == "sublinear", rate.describe()
    assert rate.exponent == pytest.approx(exponent, rel=rel)
    assert rate.bic_difference > 0
    assert rate.misfit_sublinear < rate.misfit_linear
    assert math.isnan(rate.factor)


# Algorithms whose rate is known ----------------------------------------------------


@pytest.mark.parametrize("smallest", [0.02, 0.1, 0.4])
def test_gradient_descent_on_a_quadratic_is_linear(smallest):
    """x - step A x multiplies the slowest direction by 1 - step times eigenvalue."""
    rng = np.random.default_rng(1)
    basis, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    matrix = basis @ np.diag(np.linspace(smallest, 1, 6)) @ basis.T
    x, step, gaps, losses = rng.normal(size=6), 1.0, [], []
    for _ in range(300):
        gaps.append(np.linalg.norm(x))
        losses.append(-5 + x @ matrix @ x / 2)
        x = x - step * matrix @ x
    factor = 1 - step * smallest
    assert_linear(fit_rate(gaps), factor)
    for limit in ("estimate", -5):
        rate = fit_rate(losses, limit=limit)
        assert_linear(rate, factor**2)
        assert rate.limit == pytest.approx(-5, abs=1e-4)


@pytest.mark.parametrize("power", [2.5, 3, 4, 6])
def test_gradient_descent_on_a_power_is_sublinear(power):
    """For |x|^q / q, |x| falls as t^(-1/(q-2)) and the objective as t^(-q/(q-2))."""
    x, path = 1.0, []
    for _ in range(2000):
        path.append(x)
        x -= 0.2 * x ** (power - 1)
    losses = np.array(path) ** power / power
    assert_sublinear(fit_rate(path), 1 / (power - 2))
    assert_sublinear(fit_rate(losses), power / (power - 2))
    for limit, sign in (("estimate", 1), ("estimate", -1), (7, -1)):
        rate = fit_rate(7 + sign * losses, limit=limit)
        assert_sublinear(rate, power / (power - 2))
        assert rate.limit == pytest.approx(7, abs=1e-6)


@pytest.mark.parametrize("step", [0.3, 0.125])
@pytest.mark.parametrize("every", [1, 4])
def test_proximal_point_on_the_absolute_value_is_finite(step, every):
    """Every soft threshold takes `step` off the largest entry, 2.9."""
    x, path = np.array([2.9, -0.4]), []
    for _ in range(60):
        path.append(np.abs(x).sum())
        x = np.sign(x) * np.maximum(np.abs(x) - step, 0)
    rounds = np.arange(0, 60, every)
    reached = every * math.ceil(math.ceil(2.9 / step) / every)
    for limit, offset in ((None, 0), ("estimate", 3), (3, 3)):
        rate = fit_rate(offset + np.array(path)[rounds], rounds, limit)
        assert (rate.kind, rate.reached, rate.limit) == ("finite", reached, offset)


def round_matrix(make, quadratic):
    """Return the linear part of one round, as a map of the whole state."""
    federation = Federation(make(), quadratic)
    parts = [federation.server, *(t for c in federation.clients for t in c.values())]
    sizes = [part.numel() for part in parts]

    def play(state):
        for part, values in zip(parts, state.split(sizes), strict=True):
            part.copy_(values.view(part.shape))
        federation.round(range(quadratic.m))
        return torch.cat([part.flatten() for part in parts])

    origin = play(torch.zeros(sum(sizes), dtype=torch.float64))
    basis = torch.eye(sum(sizes), dtype=torch.float64)
    return torch.stack([play(column) - origin for column in basis], dim=1)


def test_fedapm_on_a_quadratic_has_the_rate_of_its_round():
    """The slowest eigenvalue of a round that is not 1; those keep the server's sum."""
    quadratic = Quadratic()
    sizes = torch.linalg.eigvals(round_matrix(descending, quadratic)).abs()
    slowest = float(sizes[sizes < 1 - 1e-9].max())
    federation = Federation(descending(), quadratic)
    errors, primal, objective = [], [], []
    for _ in federation.rounds(500):
        errors.append(federation.error())
        gaps = federation.stack("shared") - federation.consensus
        primal.append(float(gaps.norm()))
        objective.append(lagrangian(federation, 0.1))
    assert_linear(fit_rate(errors), slowest)
    assert_linear(fit_rate(primal), slowest)
    assert_linear(fit_rate(objective, limit="estimate"), slowest**2)


def test_fedapm_at_half_participation_is_linear_at_about_half_the_speed():
    speeds = []
    for participation in (1, 0.5):
        federation = Federation(descending(), Quadratic())
        rounds = federation.rounds(600, participation)
        rate = fit_rate([federation.error() for _ in rounds])
        assert rate.kind == "linear", rate.describe()
        speeds.append(math.log(rate.factor))
    assert speeds[1] == pytest.approx(speeds[0] / 2, rel=0.2)


def test_fedalt_stalls_where_fedapm_does_not():
    federation = Federation(alternating(0.5, 5), Quadratic())
    rate = fit_rate([federation.error() for _ in federation.rounds(600)])
    assert rate.kind == "undecided"
    assert "the gap rests at" in rate.describe()


# What measurements do to them ------------------------------------------------------

T = np.arange(200)


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_a_tenth(seed):
    for factor in (0.5, 0.9, 0.98):
        assert_linear(fit_rate(noisy(factor**T, seed=seed)), factor, rel=0.02)
    for power in (0.5, 1, 2):
        values = noisy((T + 10.0) ** -power, seed=seed)
        assert_sublinear(fit_rate(values), power, rel=0.25)
    values = 3 + noisy(0.9**T, seed=seed)
    assert_linear(fit_rate(values, limit="estimate"), 0.9)


@pytest.mark.parametrize("level", [1e-7, 1e-13])
@pytest.mark.parametrize("factor", [0.3, 0.85])
def test_a_floor_is_left_out(level, factor):
    floor = level * np.random.default_rng(2).random(400)
    rate = fit_rate(factor ** np.arange(400) + floor)
    assert_linear(rate, factor)
    assert rate.last_round <= math.log(level) / math.log(factor)
    known = fit_rate(3 + factor ** np.arange(400) + floor - level / 2, limit=3)
    assert_linear(known, factor)


def test_a_floor_that_is_not_rounding_is_no_convergence():
    rate = fit_rate(0.8**T + noisy(1e-3 + 0 * T))
    assert rate.kind == "undecided"
    assert rate.reason.startswith("the gap rests at 0.001")


def test_noise_added_to_an_objective_is_left_out_too():
    noise = np.random.default_rng(3).normal(size=200)
    rate = fit_rate(3 + 0.8**T + 1e-6 * noise, limit="estimate")
    assert_linear(rate, 0.8)
    assert rate.last_round < 60


def test_oscillations_are_no_matter():
    assert_linear(fit_rate(0.95**T * np.abs(np.cos(0.7 * T))), 0.95)


def test_long_sequences_are_thinned_evenly():
    t = np.arange(7001)
    rate = fit_rate((t + 9.0) ** -1)
    assert_sublinear(rate, 1)
    assert rate.points <= 2000
    assert rate.last_round == 7000


@pytest.mark.parametrize("rise", [1, 30])
def test_a_transient_is_left_out(rise):
    transient = rise * (1 + T) * 0.5**T
    assert_linear(fit_rate(0.93**T + transient), 0.93, rel=1e-6)
    assert_linear(fit_rate(noisy(0.93**T) + transient), 0.93, rel=0.03)
    slow = (T + 5.0) ** -1.5
    assert_sublinear(fit_rate(slow + transient), 1.5, rel=1e-3)
    assert fit_rate(0.93**T + transient).first_round > 10


def test_rounds_may_be_missing_and_zero_before_training():
    rounds = [0, 1, 5, 7, 8, 20, 22, 23, 40, 41, 60]
    values = [0.0, *(0.9**t for t in rounds[1:])]
    assert_linear(fit_rate(values, rounds), 0.9, rel=1e-9)
    holes = np.where(T % 3 == 0, 0.9**T, np.nan)
    assert fit_rate(holes) == fit_rate(0.9 ** T[::3], T[::3])
    assert fit_rate([holes[0], None, math.inf, *holes[3:]]) == fit_rate(holes)


def test_a_linear_rate_that_ends_in_zeros_is_not_finite():
    assert_linear(fit_rate(0.1 ** np.arange(400.0)), 0.1, rel=1e-6)
    values = 0.7**T
    assert_linear(fit_rate(np.where(values > 1e-15, values, 0)), 0.7, rel=1e-9)
    rate = fit_rate(3 + 0.5**T, limit="estimate")
    assert_linear(rate, 0.5, rel=1e-9)
    assert rate.limit == 3


@pytest.mark.parametrize(
    ("values", "limit", "reason"),
    [
        ([], None, "0 of 0 rounds were measured"),
        ([1, None, math.nan], None, "1 of 3 rounds were measured"),
        (0.9 ** T[:7], None, "only 7 rounds"),
        (1 / (T[:7] + 1.0), "estimate", "only 7 rounds"),
        (np.ones(50), None, "do not change"),
        (noisy(np.ones(50)), None, "has not halved"),
        (1.1**T, None, "has not halved"),
        (9 - T[:40] / 8, "estimate", "not slowed down enough"),
        (noisy(0.95 ** T[:25], 0.2), None, "about as good"),
        (noisy((T + 50.0) ** -14, 0.02), None, "falls faster than t^-10"),
        ((T + 600.0) ** -5, None, "too few rounds show"),
        (noisy(np.exp(-T / 200), 2), None, "than it scatters"),
    ],
)
def test_undecided_says_why(values, limit, reason):
    rate = fit_rate(values, limit=limit)
    assert rate.kind == "undecided", rate.describe()
    assert reason in rate.describe()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, "much"],), "lists of numbers"),
        (([[1], [2]],), "lists of one length"),
        (([1, 2], [1]), "lists of one length"),
        (([1, 2], [1, 1]), "ascend"),
        (([1, 2], [1, 2.5]), "whole"),
        (([1, 2], None, math.nan), "limit must be"),
        (([1, 2], None, "guess"), "limit must be"),
    ],
)
def test_what_is_no_sequence_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_rate(*arguments)


def test_description_holds_the_numbers():
    assert (
        fit_rate(0.9**T).describe().startswith("linear: the gap is multiplied by 0.9 ")
    )
    text = fit_rate((T + 4.0) ** -2).describe()
    assert text.startswith("sublinear: the gap falls as (t+4)^-2 (")
    assert fit_rate([2, 1, 0, 0, 0]).describe() == "finite: at its limit 0 from round 2"
