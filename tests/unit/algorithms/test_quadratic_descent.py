"""FedAPM against the closed form: descent, tolerances, rates and drift.

What the paper (arXiv 2506.04672) proves or claims of the way to the minimiser. Where
a law has conditions, a control shows that it can fail outside of them.
"""

import math

import numpy as np
import pytest
import torch

from fedapm_mpi.algorithms.base import LocalBudget
from fedapm_mpi.algorithms.fedapm import FedAPM
from fedapm_mpi.algorithms.fedsim import FedSim
from tests.support.oracles.in_memory_federation import (
    UNEVEN,
    Federation,
    descending,
    increases,
    lagrangian,
    mean_vote,
    slopes_u,
    solving,
    start_at_optimum,
)
from tests.support.oracles.quadratic import Quadratic


@pytest.fixture
def quadratic():
    return Quadratic()


def lagrangians(federation, rho, rounds, participation):
    history = [lagrangian(federation, rho)]
    for _ in federation.rounds(rounds, participation):
        history.append(lagrangian(federation, rho))
    return history


@pytest.mark.parametrize("participation", [1.0, 0.5])
@pytest.mark.parametrize("v_step_at", ["local", "global"])
@pytest.mark.parametrize("dual", ["zero", "slope"])
def test_lagrangian_never_increases_under_the_conditions(
    quadratic, participation, v_step_at, dual
):
    rho, sigma = quadratic.conditions()
    algorithm = solving(quadratic, rho, sigma, 20, v_step_at=v_step_at)
    federation = Federation(algorithm, quadratic)
    if dual == "slope":
        slopes = slopes_u(federation)
        for client, slope in zip(federation.clients, slopes, strict=True):
            client["dual"].copy_(-slope)
        federation.server[0] = mean_vote(federation, rho)
    history = lagrangians(federation, rho, 150, participation)
    assert increases(history) == 0
    assert history[-1] < history[0] - 1


@pytest.mark.parametrize("weights", [UNEVEN])
def test_lagrangian_never_increases_with_uneven_weights(weights):
    quadratic = Quadratic(weights)
    rho, sigma = quadratic.conditions()
    algorithm = solving(quadratic, rho, sigma, 20, v_step_at="local")
    history = lagrangians(Federation(algorithm, quadratic), rho, 100, 0.5)
    assert increases(history) == 0


def test_lagrangian_may_increase_outside_the_conditions(quadratic):
    """And yet the method converges: descent is not what convergence hangs on."""
    algorithm = solving(quadratic, 0.01, 0.01, 60, v_step_at="local")
    federation = Federation(algorithm, quadratic)
    first = federation.error()
    history = lagrangians(federation, 0.01, 150, 1.0)
    assert increases(history) > 10
    assert federation.error() < 1e-3 * first


@pytest.mark.parametrize(("decay", "rounds"), [(0.5, 60), (0.9, 150)])
@pytest.mark.parametrize("participation", [1.0, 0.5])
@pytest.mark.parametrize("start", ["far", "optimum"])
def test_lyapunov_function_never_increases_with_tolerances(
    quadratic, decay, rounds, participation, start
):
    """L + sum_i 29 xi_i / (rho (1 - decay)) descends, where L alone does not.

    Gradients of the shared part are noisy at the size of the tolerance, so that a
    solve ends anywhere within it. From the optimum L can but increase at first.
    """
    rho, sigma = quadratic.conditions()
    work = LocalBudget(xi=0.5, decay=decay, max_epochs=500)
    algorithm = solving(quadratic, rho, sigma, shared_work=work, v_step_at="local")
    federation = Federation(algorithm, quadratic)
    if start == "optimum":
        start_at_optimum(federation)
    taken = torch.zeros(quadratic.m, dtype=torch.float64)
    plain, lyapunov, used = [], [], []
    rng = np.random.default_rng(5)
    for _ in range(rounds):
        participants = rng.permutation(6)[: round(6 * participation)].tolist()
        taken[participants] += 1
        allowed = 0.5 * decay**taken
        for problem, tolerance in zip(federation.problems, allowed, strict=True):
            problem.noise = 2 * float(tolerance) ** 0.5
        federation.round(participants)
        xi = federation.stack("xi").reshape(quadratic.m)
        torch.testing.assert_close(xi.double(), allowed, rtol=1e-6, atol=0)
        # What is held against it is alpha_i grad_u f_i + pi_i(new), by the dual step.
        missed = ((slopes_u(federation) + federation.stack("dual")) ** 2).sum(1)
        used += (missed / allowed)[participants].tolist()
        plain.append(lagrangian(federation, rho))
        lyapunov.append(plain[-1] + float(29 * allowed.sum() / (rho * (1 - decay))))
    assert max(used) <= 1 + 1e-5
    assert max(used) > 0.1, "no solve was inexact"
    assert increases(lyapunov) == 0
    if start == "optimum":
        assert increases(plain) > 1


def test_a_tolerance_stops_the_shared_phase_at_the_first_epoch_that_meets_it(quadratic):
    """One epoch fewer, from the same state, and the tolerance is missed."""
    rho, sigma = quadratic.conditions()
    work = LocalBudget(xi=1e-3, decay=0.5, max_epochs=200)
    slow = {"units": "weighted", "lr_shared": 0.1, "lr_personal": 0.5, "batch_size": 0}
    common = {"rho": rho, "sigma": sigma, "personal_work": LocalBudget(steps=1)} | slow
    federation = Federation(FedAPM(shared_work=work, **common), quadratic)
    federation.round([0])
    missed = ((slopes_u(federation) + federation.stack("dual")) ** 2).sum(1)
    assert missed[0] <= 5e-4
    found = federation.clients[0]["shared"]
    for epochs in range(1, 200):
        plain = FedAPM(shared_work=LocalBudget(epochs=epochs), **common)
        shorter = Federation(plain, quadratic)
        shorter.round([0])
        missed = ((slopes_u(shorter) + shorter.stack("dual")) ** 2).sum(1)
        if missed[0] <= 5e-4:
            break
    assert epochs > 3
    torch.testing.assert_close(shorter.clients[0]["shared"], found, rtol=0, atol=1e-14)


def log_errors(quadratic, rho, sigma, rounds, participation=1.0, steps=20):
    algorithm = solving(quadratic, rho, sigma, steps, v_step_at="local")
    federation = Federation(algorithm, quadratic)
    errors = [federation.error()]
    for _ in federation.rounds(rounds, participation):
        errors.append(federation.error())
    return [math.log(error) for error in errors]


def slope(values, first, last):
    return (values[last] - values[first]) / (last - first)


def test_error_falls_linearly_and_at_half_participation_half_as_fast(quadratic):
    rho, sigma = quadratic.conditions()
    full = log_errors(quadratic, rho, sigma, 600)
    assert slope(full, 400, 600) == pytest.approx(slope(full, 200, 400), rel=0.02)
    half = log_errors(quadratic, rho, sigma, 600, participation=0.5)
    assert slope(half, 200, 600) == pytest.approx(slope(full, 200, 600) / 2, rel=0.15)


def test_a_penalty_far_above_or_below_is_slower(quadratic):
    rho, sigma = quadratic.conditions()
    right = log_errors(quadratic, rho, sigma, 50)
    large = log_errors(quadratic, 4 * rho, 4 * sigma, 50)
    assert right[50] < large[50] - 0.5
    small = log_errors(quadratic, 0.01, 0.01, 50, steps=60)
    tiny = log_errors(quadratic, 0.001, 0.01, 50, steps=60)
    assert small[50] < tiny[50] - 0.5


def error_after(algorithm, quadratic, rounds, near=None):
    federation = Federation(algorithm, quadratic)
    federation.run(rounds, near=near)
    return federation.error()


@pytest.mark.parametrize(("rho", "work"), [(0.01, 5), (0.1, 5), (0.1, 20)])
def test_fedapm_removes_the_drift_of_many_local_steps(quadratic, rho, work):
    algorithm = descending(rho, step=0.5, work=work)
    assert error_after(algorithm, quadratic, 8_500 // work, near=1e-12) < 1e-12


def test_fedsim_stalls_too(quadratic):
    algorithm = FedSim(lr=0.5 / 6, batch_size=0, work=LocalBudget(epochs=5))
    assert error_after(algorithm, quadratic, 600) > 1e-2
    algorithm = FedSim(lr=1.0 / 6, batch_size=0, work=LocalBudget(epochs=1))
    assert error_after(algorithm, quadratic, 3_000, near=1e-10) < 1e-10
