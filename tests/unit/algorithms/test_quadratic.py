"""FedAPM against the closed form: its algebra and where it comes to rest.

Every test states a law of the method (arXiv 2506.04672) on a convex quadratic.
"""

from itertools import product

import pytest
import torch

from tests.support.oracles.in_memory_federation import (
    UNEVEN,
    Federation,
    alternating,
    descending,
    mean_vote,
    slopes_u,
    snapshot,
    solving,
    start_at_optimum,
    start_at_random,
)
from tests.support.oracles.quadratic import DIM_U, Quadratic

WEIGHTS = {"uniform": (1 / 6,) * 6, "uneven": UNEVEN}
VARIANTS = list(product(("local", "global"), ("local", "global")))


@pytest.fixture
def quadratic():
    return Quadratic()


# The closed form itself ------------------------------------------------------------


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_minimiser_is_stationary_and_gradients_are_those_of_the_loss(weights):
    quadratic = Quadratic(weights)
    v, u = quadratic.minimiser()
    v.requires_grad_()
    u.requires_grad_()
    everywhere = u.expand(quadratic.m, -1)
    total = (quadratic.weights * quadratic.loss(v, everywhere)).sum()
    for slope in torch.autograd.grad(total, (v, u)):
        assert slope.abs().max() < 1e-13
    problem = quadratic.problems()[2]
    problem.shared.copy_(torch.arange(4.0))
    problem.personal.copy_(torch.arange(3.0) - 5)
    rows_u = problem.shared.expand(quadratic.m, -1)
    rows_v = problem.personal.expand(quadratic.m, -1)
    joint = problem.gradient("both", None).clone()
    torch.testing.assert_close(joint[:DIM_U], quadratic.gradient_u(rows_v, rows_u)[2])
    torch.testing.assert_close(joint[DIM_U:], quadratic.gradient_v(rows_v, rows_u)[2])


def test_constants_are_those_of_the_specification(quadratic):
    rho, sigma = quadratic.conditions()
    assert quadratic.l_u == pytest.approx(2.62)
    assert quadratic.l_v == pytest.approx(1.79)
    assert quadratic.l_uv == pytest.approx(1.02, abs=0.01)
    assert (rho, sigma) == (pytest.approx(1.31), pytest.approx(0.70, abs=0.01))


# 1. The server's identity ----------------------------------------------------------


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("participation", [1.0, 0.5, 0.1])
@pytest.mark.parametrize(("v_step_at", "u_init"), VARIANTS)
def test_server_holds_the_mean_of_all_votes(weights, participation, v_step_at, u_init):
    rho = 0.1
    algorithm = descending(rho, work=3, v_step_at=v_step_at, u_init=u_init)
    federation = Federation(algorithm, Quadratic(weights))
    start_at_random(federation, rho)
    for _ in federation.rounds(40, participation):
        gaps = federation.stack("shared") - federation.consensus
        balance = federation.stack("dual").sum(0) + rho * gaps.sum(0)
        assert balance.abs().max() < 1e-8
        drift = federation.consensus - mean_vote(federation, rho)
        assert drift.abs().max() < 1e-12


# 2. The dual variable is minus the gradient ----------------------------------------


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize(("v_step_at", "u_init"), VARIANTS)
def test_exact_shared_step_makes_the_dual_minus_the_gradient(
    weights, v_step_at, u_init
):
    quadratic = Quadratic(weights)
    options = {"v_step_at": v_step_at, "u_init": u_init}
    algorithm = solving(quadratic, *quadratic.conditions(), steps=60, **options)
    federation = Federation(algorithm, quadratic)
    start_at_random(federation, algorithm.rho)
    for participants in federation.rounds(5, participation=0.5):
        balance = federation.stack("dual") + slopes_u(federation)
        assert balance[participants].abs().max() < 1e-13


@pytest.mark.parametrize("v_step_at", ["local", "global"])
@pytest.mark.parametrize("alpha_in_v_step", [True, False])
def test_exact_personal_step_is_the_proximal_minimiser_at_the_right_model(
    v_step_at, alpha_in_v_step
):
    """The v step is taken before the u step, at u_i of before it or at the broadcast.

    Its optimality condition is alpha_i grad_v f_i(v, u) + sigma (v - v_before) = 0,
    with 1 for alpha_i where the weight is left out.
    """
    quadratic = Quadratic(UNEVEN)
    rho, sigma = 1.0, 2.0
    algorithm = solving(
        quadratic,
        rho,
        sigma,
        steps=100,
        v_step_at=v_step_at,
        alpha_in_v_step=alpha_in_v_step,
    )
    federation = Federation(algorithm, quadratic)
    start_at_random(federation, rho)
    for _ in range(3):
        before_v, before_u = federation.stack("personal"), federation.stack("shared")
        sent = federation.consensus.clone().expand(quadratic.m, -1)
        federation.round(range(quadratic.m))
        v = federation.stack("personal")
        slope = quadratic.gradient_v(v, before_u if v_step_at == "local" else sent)
        alpha = quadratic.weights[:, None] if alpha_in_v_step else 1.0
        assert (alpha * slope + sigma * (v - before_v)).abs().max() < 1e-13


# 3. Fixed point --------------------------------------------------------------------


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("participation", [1.0, 0.5])
@pytest.mark.parametrize("v_step_at", ["local", "global"])
def test_comes_to_rest_at_the_joint_minimiser(weights, participation, v_step_at):
    quadratic = Quadratic(weights)
    algorithm = descending(0.1, step=1.0, work=10, v_step_at=v_step_at)
    federation = Federation(algorithm, quadratic)
    start_at_random(federation, algorithm.rho)
    federation.run(round(450 / participation**1.1), participation, near=1e-10)
    v, u = federation.stack("personal"), federation.stack("shared")
    assert federation.error() < 1e-10
    assert federation.stack("dual").sum(0).abs().max() < 1e-10
    assert (u - federation.consensus).abs().max() < 1e-10
    assert quadratic.gradient_v(v, u).abs().max() < 1e-10
    assert (federation.stack("dual") + slopes_u(federation)).abs().max() < 1e-10


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize(("v_step_at", "u_init"), VARIANTS)
@pytest.mark.parametrize("rho", [0.01, 1.31])
def test_a_round_from_the_optimum_changes_nothing(weights, v_step_at, u_init, rho):
    algorithm = descending(rho, step=0.3, v_step_at=v_step_at, u_init=u_init)
    federation = Federation(algorithm, Quadratic(weights))
    start_at_optimum(federation)
    before, server = snapshot(federation), federation.server.clone()
    federation.round([0, 1, 2, 3, 4, 5])
    for client, was in zip(federation.clients, before, strict=True):
        for name, value in client.items():
            torch.testing.assert_close(value, was[name], rtol=0, atol=1e-14)
    # The server divides rounding errors of the dual variable by rho.
    torch.testing.assert_close(
        federation.server, server, rtol=0, atol=1e-14 * max(1, 1 / rho)
    )


# 8. FedAlt as a special case -------------------------------------------------------


@pytest.mark.parametrize("participation", [1.0, 0.5])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_without_dual_and_penalty_it_is_fedalt(quadratic, participation, weight_decay):
    """Dual zero, rho to zero, sigma zero, and a plain mean over participants."""
    decay = {"weight_decay": weight_decay}
    ours = Federation(descending(rho=1e-30, sigma=0.0, **decay), quadratic)
    other = Federation(alternating(0.5, 5, **decay), quadratic)
    for participants in other.rounds(20, participation):
        for client in ours.clients:
            client["dual"].zero_()
        server = ours.server.clone()
        ours.round(participants)
        ours.server.copy_(server)
        ours.server[0] = ours.stack("shared")[participants].mean(0)
        for mine, theirs in zip(ours.clients, other.clients, strict=True):
            for name in ("shared", "personal"):
                torch.testing.assert_close(mine[name], theirs[name], rtol=0, atol=1e-13)
        torch.testing.assert_close(ours.server, other.server, rtol=0, atol=1e-13)


# 9. What stays and what travels ----------------------------------------------------


@pytest.mark.parametrize(("v_step_at", "u_init"), VARIANTS)
def test_who_sits_out_keeps_every_bit_and_messages_have_the_size_of_u(
    quadratic, v_step_at, u_init
):
    algorithm = descending(work=2, v_step_at=v_step_at, u_init=u_init)
    federation = Federation(algorithm, quadratic)
    start_at_random(federation, algorithm.rho)
    for _ in range(5):
        for participants in ([0, 3], [5], [1, 3, 4]):
            before = snapshot(federation)
            federation.round(participants)
            for i, client in enumerate(federation.clients):
                same = [torch.equal(client[name], before[i][name]) for name in client]
                assert all(same) if i not in participants else not any(same)
            for increment in federation.increment.values():
                assert increment.shape == (1, DIM_U)
                assert increment.dtype == torch.float64


# 10. The increment -----------------------------------------------------------------


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize(("v_step_at", "u_init"), VARIANTS)
def test_increment_is_twice_the_new_model_less_the_old_and_the_broadcast(
    weights, v_step_at, u_init
):
    """With the client's own model as it last sent it, not as the broadcast left it."""
    algorithm = descending(1.31, sigma=0.7, v_step_at=v_step_at, u_init=u_init)
    federation = Federation(algorithm, Quadratic(weights))
    start_at_random(federation, algorithm.rho)
    sent = federation.consensus.clone()
    before = federation.stack("shared")
    for participants in federation.rounds(10, participation=0.5):
        after = federation.stack("shared")
        for i in participants:
            expected = 2 * after[i] - before[i] - sent
            increment = federation.increment[i][0]
            torch.testing.assert_close(increment, expected, rtol=0, atol=1e-14)
        total = sum(federation.increment[i][0] for i in participants)
        torch.testing.assert_close(
            federation.consensus, sent + total / 6, rtol=0, atol=1e-14
        )
        before, sent = after, federation.consensus.clone()
