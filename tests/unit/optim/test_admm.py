"""Residuals, the stop rule, the augmented Lagrangian and the theory's conditions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedapm_mpi.algorithms._consensus_admm import ResidualBalancing
from fedapm_mpi.algorithms.base import LocalBudget
from fedapm_mpi.optim import admm
from fedapm_mpi.optim.fedapm_theory import lyapunov_excess
from tests.support.oracles.in_memory_federation import (
    UNEVEN,
    Federation,
    descending,
    increases,
    solving,
    start_at_optimum,
    start_at_random,
)
from tests.support.oracles.quadratic import Quadratic

sizes = st.floats(0, 1e6, allow_nan=False)
scale = st.sampled_from([0.0, 1e-3, 1.0, 1e3])
seeds = st.integers(0, 10_000)


@pytest.mark.parametrize("which", ["primal", "dual"])
@pytest.mark.parametrize(
    ("value", "of", "expected"),
    [(0.0, 0.0, 0.0), (2.0, 0.0, math.inf), (0.0, 3.0, 0.0), (3.0, 2.0, 1.5)],
)
def test_relative_forms(which, value, of, expected):
    values = {"primal": 7.0, "dual": 7.0, "scale_primal": 1.0, "scale_dual": 1.0}
    values |= {which: value, f"scale_{which}": of}
    assert getattr(admm.Residuals(**values), f"{which}_relative") == expected


@given(seeds, scale, scale, scale, scale)
def test_stop_rule_is_the_textbooks(seed, spread, step, absolute, relative):
    """Boyd et al. 2011, 3.3.1, on stacked vectors: x = (u_1 .. u_m), x = (u .. u)."""
    rng = np.random.default_rng(seed)
    m, d, rho = int(rng.integers(1, 5)), int(rng.integers(1, 4)), rng.uniform(0.1, 3)
    u, change = rng.normal(size=d), step * rng.normal(size=d)
    copies, duals = u + spread * rng.normal(size=(m, d)), rng.normal(size=(m, d))
    x, z, y = copies.reshape(-1), np.tile(u, m), duals.reshape(-1)
    r, s = np.linalg.norm(x - z), np.linalg.norm(rho * np.tile(change, m))
    eps_pri = math.sqrt(m * d) * absolute + relative * max(
        np.linalg.norm(x), np.linalg.norm(z)
    )
    eps_dual = math.sqrt(m * d) * absolute + relative * np.linalg.norm(y)
    found = admm.Residuals(
        primal=math.sqrt(
            sum(admm.squared_distance(torch.tensor(x), torch.tensor(u)) for x in copies)
        ),
        dual=admm.dual_residual(
            [(torch.tensor(change), torch.full((m,), rho, dtype=torch.float64))]
        ),
        scale_primal=max(np.linalg.norm(copies), math.sqrt(m) * np.linalg.norm(u)),
        scale_dual=float(np.linalg.norm(duals)),
    )
    assert found.primal == pytest.approx(r, rel=1e-12)
    assert found.dual == pytest.approx(s, rel=1e-12)
    assert found.within(absolute, relative, m * d) == (r <= eps_pri and s <= eps_dual)


def test_both_residuals_must_be_within():
    one = admm.Residuals(1.0, 1.0, scale_primal=10.0, scale_dual=20.0)
    assert one.within(0.0, 0.1, 4)
    assert not replace_in(one, primal=1.001).within(0.0, 0.1, 4)
    assert not replace_in(one, dual=2.001).within(0.0, 0.1, 4)
    assert one.within(0.5, 0.0, 4)
    assert not one.within(0.5, 0.0, 3)
    assert replace_in(one, primal=2.0).within(0.5, 0.1, 4)
    assert not replace_in(one, primal=2.001).within(0.5, 0.1, 4)


def replace_in(residuals, **values):
    return residuals._replace(**values)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), seeds)
def test_dual_residual_of_unequal_penalties_stacks_rho_i_times_the_change(rhos, seed):
    change = np.random.default_rng(seed).normal(size=3)
    stacked = np.concatenate([rho * change for rho in rhos])
    found = admm.dual_residual(
        [(torch.tensor(change), torch.tensor(rhos, dtype=torch.float64))]
    )
    assert found == pytest.approx(np.linalg.norm(stacked), rel=1e-12)


@given(st.floats(1e-6, 1e6), sizes, sizes, st.floats(1.001, 100), st.floats(1.001, 10))
def test_balanced_penalty(rho, primal, dual, ratio, factor):
    """Boyd et al. 2011, equation 3.13; exchanging the residuals turns it round."""
    found = admm.balance_penalty(rho, primal, dual, ratio=ratio, factor=factor)
    turned = admm.balance_penalty(rho, dual, primal, ratio=ratio, factor=factor)
    if primal > ratio * dual:
        assert (found, turned) == (rho * factor, rho / factor)
    elif dual > ratio * primal:
        assert (found, turned) == (rho / factor, rho * factor)
    else:
        assert found == turned == rho


def shares(federation):
    """Return every client's share, with its own loss, and what Lyapunov's adds."""
    q = federation.quadratic
    losses = q.loss(federation.stack("personal"), federation.stack("shared"))
    return np.array(
        [
            federation.algorithm.lagrangian(
                client, federation.consensus, float(loss), float(weight)
            )
            for client, loss, weight in zip(
                federation.clients, losses, q.weights, strict=True
            )
        ]
    ).T


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_shares_of_the_lagrangian_add_up_to_it(weight_decay):
    algorithm = descending(0.7, weight_decay=weight_decay)
    federation = Federation(algorithm, Quadratic(UNEVEN))
    start_at_random(federation, 0.7)
    federation.server.add_(0.3)
    v, u, dual = (federation.stack(name) for name in ("personal", "shared", "dual"))
    alpha = federation.quadratic.weights
    decay = 0.5 * weight_decay * ((v**2).sum(1) + (u**2).sum(1))
    expected = federation.quadratic.lagrangian(v, u, dual, federation.consensus, 0.7)
    found, excess = shares(federation)
    assert found.sum() == pytest.approx(expected + float((alpha * decay).sum()))
    assert (excess == 0).all()


def test_the_lagrangian_is_with_each_clients_own_penalty():
    federation = Federation(
        descending(0.7, residual_balancing=ResidualBalancing()), Quadratic(UNEVEN)
    )
    start_at_random(federation, 0.7)
    federation.change_penalty(2.0)
    federation.round([0, 3])
    gaps = federation.stack("shared") - federation.consensus
    own = torch.tensor([2.0, 0.7, 0.7, 2.0, 0.7, 0.7], dtype=torch.float64)
    q = federation.quadratic
    losses = q.weights * q.loss(
        federation.stack("personal"), federation.stack("shared")
    )
    coupling = (federation.stack("dual") * gaps).sum(1)
    expected = losses + coupling + 0.5 * own * (gaps**2).sum(1)
    np.testing.assert_allclose(shares(federation)[0], expected, rtol=1e-12)


@pytest.mark.parametrize(("decay", "rounds"), [(0.5, 60), (0.9, 150)])
@pytest.mark.parametrize("participation", [1.0, 0.5])
def test_what_the_algorithm_calls_lyapunovs_never_increases(
    decay, rounds, participation
):
    """Where u steps end at a tolerance; from the optimum, L alone must increase."""
    quadratic = Quadratic()
    rho, sigma = quadratic.conditions()
    work = LocalBudget(xi=0.5, decay=decay, max_epochs=500)
    algorithm = solving(quadratic, rho, sigma, shared_work=work, v_step_at="local")
    federation = Federation(algorithm, quadratic)
    start_at_optimum(federation)
    plain, lyapunov = [], []
    taken = np.zeros(6)
    rng = np.random.default_rng(5)
    for _ in range(rounds):
        participants = rng.permutation(6)[: round(6 * participation)].tolist()
        taken[participants] += 1
        xi = 0.5 * decay**taken
        for problem, tolerance in zip(federation.problems, xi, strict=True):
            problem.noise = 2 * float(tolerance) ** 0.5
        federation.round(participants)
        found, excess = shares(federation)
        np.testing.assert_allclose(excess, 29 * xi / (rho * (1 - decay)), rtol=1e-12)
        plain.append(found.sum())
        lyapunov.append(found.sum() + excess.sum())
    assert increases(lyapunov) == 0
    assert increases(plain) > 1
    assert lyapunov_excess(2.0, 4.0, 0.5) == 29.0
