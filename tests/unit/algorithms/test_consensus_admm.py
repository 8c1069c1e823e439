"""A penalty that adapts: what must hold of duals and server while it changes.

`Exact` solves its local problems by linear algebra, so that any penalty will do.
"""

import math

import numpy as np
import pytest
import torch

from fedapm_mpi.algorithms._consensus_admm import PenaltySchedule, ResidualBalancing
from fedapm_mpi.optim import admm
from tests.support.oracles.exact_admm import Exact
from tests.support.oracles.in_memory_federation import (
    UNEVEN,
    Federation,
    descending,
    snapshot,
    start_at_random,
)
from tests.support.oracles.quadratic import DIM_U, DIM_V, KAPPA, Quadratic

RHOS = (0.1, 0.2, 0.4, 0.1, 0.05, 0.3, 3.0, 0.3, 0.03, 0.3)
"""Up and down."""


def exact(rho, **balance):
    return Exact(rho=rho, residual_balancing=ResidualBalancing(**balance))


def scheduled(rho, **schedule):
    return Exact(rho=rho, rho_schedule=PenaltySchedule(**schedule))


def adaptive(rho, relaxation=1.0, **options):
    """FedAPM whose penalty the test changes itself."""
    return descending(
        rho, residual_balancing=ResidualBalancing(), relaxation=relaxation, **options
    )


# The server under clients' own penalties -------------------------------------------


@pytest.mark.parametrize("participation", [1.0, 0.5, 1 / 6])
@pytest.mark.parametrize("relaxation", [1.0, 1.6])
def test_server_minimises_over_u_given_every_clients_own_penalty(
    participation, relaxation
):
    """u = sum(rho_i u_i + pi_i) / sum(rho_i), each with what it last worked with."""
    federation = Federation(adaptive(RHOS[0], relaxation), Quadratic(UNEVEN))
    start_at_random(federation, RHOS[0])
    own = [RHOS[0]] * 6
    rng = np.random.default_rng(4)
    spread = []
    for rho in RHOS * 3:
        federation.change_penalty(rho)
        participants = rng.permutation(6)[: round(6 * participation)].tolist()
        federation.round(participants)
        for i in participants:
            own[i] = rho
        weight = torch.tensor(own, dtype=torch.float64)
        total = (weight[:, None] * federation.stack("shared")).sum(0)
        u = (total + federation.stack("dual").sum(0)) / sum(own)
        assert (u - federation.consensus).abs().max() < 1e-12
        assert federation.stack("rho").flatten().tolist() == own
        spread.append(max(own) / min(own))
    assert max(spread) > (1.5 if participation < 1 else 0.5)


def test_the_augmented_lagrangian_in_u_rests_there():
    """Its gradient by autograd, with every client's own penalty."""
    federation = Federation(adaptive(0.1), Quadratic(UNEVEN))
    for rho, participants in zip(RHOS, [[0, 1], [2], [3, 4], [1, 5]] * 3, strict=False):
        federation.change_penalty(rho)
        federation.round(participants)
    u = federation.consensus.clone().requires_grad_()
    shares = [
        federation.algorithm.lagrangian(client, u.detach(), 0.0, 1.0)[0]
        for client in federation.clients
    ]
    gaps = federation.stack("shared") - u
    coupling = (federation.stack("dual") * gaps).sum(1)
    total = coupling + 0.5 * federation.stack("rho")[:, 0] * (gaps**2).sum(1)
    np.testing.assert_allclose(shares, total.detach().numpy(), rtol=0, atol=1e-13)
    (slope,) = torch.autograd.grad(total.sum(), u)
    assert slope.abs().max() < 1e-12
    assert len(set(federation.stack("rho").flatten().tolist())) > 2


def test_a_new_penalty_rescales_no_dual_and_leaves_who_sits_out_alone():
    federation = Federation(adaptive(0.1), Quadratic())
    federation.run(3)
    for rho in RHOS[1:]:
        before, sent = snapshot(federation), federation.consensus.clone()
        federation.change_penalty(rho)
        federation.round([1, 4])
        for i, client in enumerate(federation.clients):
            if i not in (1, 4):
                assert all(torch.equal(client[k], before[i][k]) for k in client)
                continue
            ascent = before[i]["dual"] + rho * (client["shared"] - sent)
            torch.testing.assert_close(client["dual"], ascent, rtol=0, atol=1e-15)


def test_a_penalty_that_stays_is_bit_for_bit_the_constant_one():
    ours = Federation(adaptive(0.1), Quadratic())
    other = Federation(descending(0.1), Quadratic())
    for participants in ours.rounds(20, participation=0.5):
        other.round(participants)
        assert torch.equal(ours.server, other.server)
        assert torch.equal(ours.stack("dual"), other.stack("dual"))


def solved(quadratic, i, rho, z, y):
    """Return (v_i, u_i), the solution of a client's local problem, by numpy."""
    a, b, c = (x[i].numpy() for x in (quadratic.a, quadratic.b, quadratic.c))
    both = np.concatenate([a, b], axis=1)
    h = UNEVEN[i] * (both.T @ both + KAPPA * np.eye(DIM_V + DIM_U))
    g = UNEVEN[i] * both.T @ c
    h[DIM_V:, DIM_V:] += rho * np.eye(DIM_U)
    g[DIM_V:] += rho * z - y
    return np.linalg.solve(h, g)


def test_textbook_consensus_with_a_varying_penalty():
    """Boyd et al. 2011, 3.4.1, in numpy: all take part, unscaled duals, exact steps."""
    quadratic = Quadratic(UNEVEN)
    balance = {"factor": 3.0, "ratio": 1.5, "residuals": "absolute"}
    federation = Federation(exact(RHOS[0], **balance), quadratic)
    rho, z = RHOS[0], quadratic.start_u.numpy().copy()
    y, x = np.zeros((6, DIM_U)), np.zeros((6, DIM_V + DIM_U))
    used = []
    for _ in range(40):
        federation.round(range(6))
        for i in range(6):
            x[i] = solved(quadratic, i, rho, z, y[i])
            y[i] = y[i] + rho * (x[i, DIM_V:] - z)
        before, z = z, (x[:, DIM_V:] + y / rho).mean(0)
        for name, expected in {
            "shared": x[:, DIM_V:],
            "personal": x[:, :DIM_V],
            "dual": y,
        }.items():
            found = federation.stack(name).numpy()
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)
        np.testing.assert_allclose(federation.consensus, z, rtol=0, atol=1e-11)
        primal = np.linalg.norm(x[:, DIM_V:] - z)
        dual = rho * math.sqrt(6) * np.linalg.norm(z - before)
        used.append(rho)
        if primal > 1.5 * dual:
            rho = 3 * rho
        elif dual > 1.5 * primal:
            rho = rho / 3
        assert federation.adapt() == rho
    steps = np.sign(np.diff(used))
    assert {-1, 1} <= set(steps), "the penalty did not go both ways"


# Balancing -------------------------------------------------------------------------


def errors(algorithm, most, participation=1.0, goal=0.0):
    """Return the error after every round, up to a goal, and the rounds' penalties."""
    federation = Federation(algorithm, Quadratic(UNEVEN))
    found, used = [], []
    for _ in federation.rounds(most, participation):
        used.append(federation.algorithm.rho)
        found.append(federation.error())
        if found[-1] <= goal:
            break
        federation.adapt()
    return found, used


def assert_moves(used, way, times):
    """Check that the penalty goes the right way, and not the other, at first."""
    steps = np.log2(np.array(used[: 2 * times])) * way
    assert (np.diff(steps) >= 0).all(), used
    assert steps[-1] >= steps[0] + times - 1, used


@pytest.mark.parametrize(("start", "way"), [(1e-4, 1), (1e3, -1)])
@pytest.mark.parametrize(
    ("residuals", "participation", "most"),
    [("relative", 1.0, 150), ("relative", 0.5, 400), ("absolute", 1.0, 1200)],
)
def test_a_bad_penalty_mends(start, way, residuals, participation, most):
    """Far too small or too large, it moves the right way, and the run converges.

    The minimiser is reached within rounds in which that constant penalty leads nowhere.
    """
    algorithm = exact(start, ratio=2.0, residuals=residuals)
    adapting, used = errors(algorithm, most, participation, goal=1e-8)
    assert adapting[-1] <= 1e-8
    assert_moves(used, way, 6)
    constant, same = errors(Exact(rho=start), len(used), participation)
    assert set(same) == {start}
    assert min(constant) > 1e-3
    assert 1e-2 < used[-1] < 10


@pytest.mark.parametrize(("start", "way"), [(1e-4, 1), (1e3, -1)])
def test_absolute_residuals_move_it_the_right_way_under_partial_participation(
    start, way
):
    """If not to the best penalty: the server's change is that of half the clients."""
    adapting, used = errors(exact(start, ratio=2.0), 200, participation=0.5)
    assert_moves(used, way, 6)
    constant, _ = errors(Exact(rho=start), 200, participation=0.5)
    assert adapting[-1] < 0.3 * constant[-1]


def test_a_bad_penalty_mends_with_gradient_steps_too():
    options = {"work": 20, "sigma": 0.1}
    adapting, used = errors(
        descending(
            1e-4, residual_balancing=ResidualBalancing(residuals="absolute"), **options
        ),
        800,
        goal=1e-8,
    )
    assert adapting[-1] <= 1e-8
    assert_moves(used, 1, 6)
    constant, _ = errors(descending(1e-4, **options), len(used))
    assert min(constant) > 1e-3


def residuals(primal, dual, scale_primal=1.0, scale_dual=1.0):
    return admm.Residuals(primal, dual, scale_primal, scale_dual)


@pytest.mark.parametrize(
    ("primal", "dual", "expected"),
    [(21, 7, 8.0), (20.9, 7, 2.0), (7, 21, 0.5), (7, 20.9, 2.0), (0, 0, 2.0)],
)
def test_the_ratio_at_which_it_changes_and_the_factor(primal, dual, expected):
    algorithm = exact(2.0, ratio=2.999, factor=4.0)
    assert algorithm.next_penalty(residuals(primal, dual), 1) == expected


def test_relative_residuals_are_compared_in_their_own_units():
    large_primal = residuals(100.0, 1.0, scale_primal=1e4, scale_dual=1.0)
    assert exact(1.0, residuals="absolute").next_penalty(large_primal, 1) == 2.0
    assert exact(1.0, residuals="relative").next_penalty(large_primal, 1) == 0.5
    assert exact(1.0).next_penalty(large_primal, 1) == 2.0


def test_it_stays_within_its_bounds():
    grow, shrink = residuals(100.0, 1.0), residuals(1.0, 100.0)
    bounds = {"rho_min": 0.8, "rho_max": 1.5}
    assert exact(1.0, **bounds).next_penalty(grow, 1) == 1.5
    assert exact(1.0, **bounds).next_penalty(shrink, 1) == 0.8
    assert exact(1.0, rho_min=0.8).next_penalty(grow, 1) == 2.0
    assert exact(1.0, rho_max=1.5).next_penalty(shrink, 1) == 0.5
    with pytest.raises(ValueError, match="rho_min must not be above rho_max"):
        exact(1.0, rho_min=2.0, rho_max=1.0)
    with pytest.raises(ValueError, match="rho 1 is not between"):
        exact(1.0, rho_max=0.5)


def test_every_and_until():
    """It is looked at in rounds 3, 6, 9 of which 9 is the last."""
    algorithm = exact(1.0, every=3, until=9)
    bad = residuals(100.0, 1.0)
    changed = [t for t in range(1, 20) if algorithm.next_penalty(bad, t) != 1.0]
    assert changed == [3, 6, 9]


def test_without_balance_it_never_changes():
    assert Exact(rho=0.3).next_penalty(residuals(100.0, 1.0), 1) == 0.3


def test_every_and_until_in_a_run():
    federation = Federation(exact(1e-4, every=4, until=10), Quadratic())
    used = [federation.algorithm.rho]
    for _ in federation.rounds(14):
        used.append(federation.adapt())
    changes = [t for t in range(1, 15) if used[t] != used[t - 1]]
    assert changes == [4, 8]


# A schedule ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"growth": 2.0}, [1, 2, 4, 8, 16, 32, 64]),
        ({"growth": 2.0, "until": 3}, [1, 2, 4, 8, 8, 8, 8]),
        ({"growth": 2.0, "every": 3, "until": 5}, [1, 1, 1, 2, 2, 2, 2]),
        ({"growth": 2.0, "every": 2, "rho_max": 3.0}, [1, 1, 2, 2, 3, 3, 3]),
        ({"growth": 0.5, "rho_min": 0.2}, [1, 0.5, 0.25, 0.2, 0.2, 0.2, 0.2]),
    ],
)
def test_penalties_of_a_schedule(schedule, expected):
    """Those of rounds 1 to 7, of which some have no participants."""
    federation = Federation(scheduled(1.0, **schedule), Quadratic(UNEVEN))
    assert federation.adapt() == 1.0, "it changes ahead of the first round"
    used = []
    for participants in ([0, 1], [], [2], [], [], range(6), [3]):
        used.append(federation.algorithm.rho)
        federation.round(participants)
        federation.adapt()
    assert used == expected


@pytest.mark.parametrize("participation", [1.0, 0.5])
@pytest.mark.parametrize("growth", [1.3, 0.8])
def test_textbook_consensus_with_a_scheduled_penalty(growth, participation):
    """In numpy, with sum(rho_i u_i + pi_i) / sum(rho_i) where not all take part."""
    quadratic = Quadratic(UNEVEN)
    federation = Federation(scheduled(0.2, growth=growth, every=2, until=9), quadratic)
    z, y = quadratic.start_u.numpy().copy(), np.zeros((6, DIM_U))
    x, own = np.tile(z, (6, 1)), np.full((6, 1), 0.2)
    for t, participants in enumerate(federation.rounds(20, participation)):
        rho = 0.2 * growth ** min(t // 2, 4)
        for i in participants:
            x[i] = solved(quadratic, i, rho, z, y[i])[DIM_V:]
            y[i] += rho * (x[i] - z)
            own[i] = rho
        z = (own * x + y).sum(0) / own.sum()
        for name, expected in {"shared": x, "dual": y, "rho": own}.items():
            found = federation.stack(name).numpy()
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)
        np.testing.assert_allclose(federation.consensus, z, rtol=0, atol=1e-11)
        federation.adapt()


@pytest.mark.parametrize(("start", "growth"), [(0.002, 1.25), (5.0, 0.8)])
@pytest.mark.parametrize("participation", [1.0, 0.5])
def test_a_run_with_a_schedule_reaches_the_closed_form(start, growth, participation):
    """And where constant, the first penalty leads nowhere in as many rounds."""
    algorithm = scheduled(start, growth=growth, until=15)
    reached, used = errors(algorithm, 400, participation, goal=1e-8)
    assert reached[-1] <= 1e-8
    assert used[-1] == pytest.approx(start * growth**15, rel=1e-12)
    constant, _ = errors(Exact(rho=start), len(used), participation)
    assert constant[-1] > 0.1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"growth": 1.0}, "growth must be a factor above 0 other than 1"),
        ({"growth": -2.0}, "growth must be a factor"),
        ({"growth": math.inf}, "growth must be a factor"),
        ({"growth": 2.0, "every": 0}, "every must be at least 1"),
        ({"growth": 2.0, "every": 3, "until": 2}, "until at least every"),
        ({"growth": 2.0, "rho_min": 0.1}, "rho_min has no effect with a growth above"),
        ({"growth": 0.5, "rho_max": 9.0}, "rho_max has no effect with a growth below"),
        ({"growth": 2.0, "rho_max": 0.5}, "rho 1 is not between .* of rho_schedule"),
    ],
)
def test_refused_schedules(options, words):
    with pytest.raises(ValueError, match=words):
        scheduled(1.0, **options)


def test_residuals_and_a_schedule_do_not_both_change_it():
    both = {
        "residual_balancing": ResidualBalancing(),
        "rho_schedule": PenaltySchedule(growth=1.1),
    }
    with pytest.raises(ValueError, match="one of residual_balancing and rho_schedule"):
        Exact(rho=1.0, **both)
