"""FedAPM's options: blocks stepped jointly, relaxation, dual steps, means."""

import pytest
import torch

from fedapm_mpi.algorithms.base import LocalBudget
from fedapm_mpi.algorithms.fedapm import FedAPM
from fedapm_mpi.algorithms.feddyn import FedDyn
from fedapm_mpi.algorithms.fedsim import FedSim
from tests.support.oracles.exact_admm import Exact
from tests.support.oracles.fedapm_numpy import Literal, assert_agrees, joint, start
from tests.support.oracles.in_memory_federation import (
    UNEVEN,
    Federation,
    descending,
    slopes_u,
    snapshot,
    start_at_optimum,
)
from tests.support.oracles.least_squares import EMPTY, LeastSquares
from tests.support.oracles.quadratic import DIM_U, DIM_V, Quadratic

WEIGHTS = {"uniform": (1 / 6,) * 6, "uneven": UNEVEN}
SCHEDULE = ([0, 3], [5], [1, 3, 4], [0, 1, 2, 3, 4, 5])
RELAXATIONS = (0.7, 1.6)
PARTICIPANTS = {"server_average": "participants"}


@pytest.fixture
def quadratic():
    return Quadratic()


# Joint steps -----------------------------------------------------------------------


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("u_init", ["global", "local"])
@pytest.mark.parametrize("alpha_in_v_step", [True, False])
@pytest.mark.parametrize("relaxation", [1.0, *RELAXATIONS])
def test_joint_rounds_by_hand(weights, u_init, alpha_in_v_step, relaxation):
    """Every option at once, from a state in which nothing is zero."""
    algorithm = joint(
        1.3,
        sigma=0.7,
        work=3,
        lr_personal=0.3,
        lr_shared=0.2,
        weight_decay=0.4,
        u_init=u_init,
        alpha_in_v_step=alpha_in_v_step,
        relaxation=relaxation,
    )
    federation = start(algorithm, weights)
    literal = Literal(
        federation,
        lr_u=0.2,
        lr_v=0.3,
        steps=3,
        relaxation=relaxation,
        decay=0.4,
        local_start=u_init == "local",
        weigh_v=alpha_in_v_step,
    )
    for participants in SCHEDULE:
        federation.round(participants)
        literal.round(participants)
        assert_agrees(federation, literal)


def test_a_joint_step_is_one_gradient_in_both_blocks_on_one_batch(quadratic):
    """One pass of the phase "joint", in which no block is stepped alone."""
    federation = Federation(joint(work=4), quadratic)
    problem, calls = federation.problems[2], []
    gradient, batches = problem.gradient, problem.batches

    def watched(part, batch):
        calls.append(part)
        return gradient(part, batch)

    def phase(name, work, size):
        calls.append(f"{name} phase")
        return batches(name, work, size)

    problem.gradient, problem.batches = watched, phase
    federation.round([2])
    assert calls == ["joint phase", "both", "both", "both", "both"]


@pytest.mark.parametrize("participants", [[0, 1, 2, 3, 4, 5], [1, 4]])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_joint_without_dual_penalty_and_sigma_is_fedsim(participants, weight_decay):
    """From the same state, at the step on the weighted loss: what a client trains."""
    ours = Federation(joint(1e-30, 0.0, weight_decay=weight_decay), Quadratic())
    simultaneous = FedSim(
        lr=0.5 / 6, batch_size=0, work=LocalBudget(epochs=5), weight_decay=weight_decay
    )
    other = Federation(simultaneous, Quadratic())
    generator = torch.Generator().manual_seed(2)
    for mine, theirs in zip(ours.clients, other.clients, strict=True):
        mine["personal"].normal_(generator=generator)
        theirs["personal"].copy_(mine["personal"])
    ours.round(participants)
    other.round(participants)
    for mine, theirs in zip(ours.clients, other.clients, strict=True):
        for name in ("shared", "personal"):
            torch.testing.assert_close(mine[name], theirs[name], rtol=0, atol=1e-12)
    assert (ours.stack("shared")[participants] - ours.quadratic.start_u).norm() > 0.1


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("participation", [1.0, 0.5])
def test_joint_comes_to_rest_at_the_joint_minimiser(weights, participation):
    federation = start(joint(0.1, step=1.0, work=10), weights)
    federation.run(round(500 / participation**1.1), participation, near=1e-10)
    v, u = federation.stack("personal"), federation.stack("shared")
    assert federation.error() < 1e-10
    assert federation.stack("dual").sum(0).abs().max() < 1e-10
    assert (u - federation.consensus).abs().max() < 1e-10
    assert federation.quadratic.gradient_v(v, u).abs().max() < 1e-10
    assert (federation.stack("dual") + slopes_u(federation)).abs().max() < 1e-10


@pytest.mark.parametrize(("rho", "work"), [(0.01, 5), (0.1, 20)])
def test_joint_steps_remove_the_drift_of_many_of_them(quadratic, rho, work):
    ours = Federation(joint(rho, step=0.5, work=work), quadratic)
    ours.run(8_000 // work, near=1e-12)
    assert ours.error() < 1e-12


@pytest.mark.parametrize("work", [5, 20])
def test_fedsim_stalls_with_the_same_steps(quadratic, work):
    simultaneous = FedSim(lr=0.5 / 6, batch_size=0, work=LocalBudget(epochs=work))
    other = Federation(simultaneous, quadratic)
    other.run(3_000 // work)
    stalled = other.error()
    other.run(3_000 // work)
    assert stalled > 1e-2
    assert other.error() == pytest.approx(stalled, rel=1e-3)


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("u_init", ["global", "local"])
@pytest.mark.parametrize("rho", [0.01, 1.31])
@pytest.mark.parametrize("relaxation", [1.0, *RELAXATIONS])
def test_a_joint_round_from_the_optimum_changes_nothing(
    weights, u_init, rho, relaxation
):
    algorithm = joint(rho, step=0.3, u_init=u_init, relaxation=relaxation)
    federation = start(algorithm, weights, start_at_optimum)
    before, server = snapshot(federation), federation.server.clone()
    federation.round([0, 1, 2, 3, 4, 5])
    for client, was in zip(federation.clients, before, strict=True):
        for name, value in client.items():
            torch.testing.assert_close(value, was[name], rtol=0, atol=1e-14)
    torch.testing.assert_close(
        federation.server, server, rtol=0, atol=1e-14 * max(1, 1 / rho)
    )


# Over-relaxation -------------------------------------------------------------------


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_relaxed_rounds_by_hand(weights, relaxation):
    """Blocks in turn; penalty and dual are anchored at gamma u + (1 - gamma) u_i."""
    algorithm = descending(
        1.3, sigma=0.7, step=0.3, work=3, weight_decay=0.4, relaxation=relaxation
    )
    federation = start(algorithm, weights)
    literal = Literal(
        federation,
        lr_u=0.3,
        lr_v=0.3,
        steps=3,
        relaxation=relaxation,
        decay=0.4,
        joint=False,
    )
    for participants in SCHEDULE:
        federation.round(participants)
        literal.round(participants)
        assert_agrees(federation, literal)


@pytest.mark.parametrize("relaxation", RELAXATIONS)
@pytest.mark.parametrize("build", [descending, joint])
def test_relaxed_clients_keep_the_server_at_the_mean_of_their_votes(relaxation, build):
    federation = start(build(0.3, relaxation=relaxation))
    for _ in federation.rounds(40, participation=0.5):
        votes = federation.stack("shared") + federation.stack("dual") / 0.3
        assert (votes.mean(0) - federation.consensus).abs().max() < 1e-12


@pytest.mark.parametrize("rho", [0.01, 0.3])
@pytest.mark.parametrize("relaxation", RELAXATIONS)
@pytest.mark.parametrize("participation", [1.0, 0.5])
def test_relaxed_rounds_come_to_rest_at_the_joint_minimiser(
    relaxation, participation, rho
):
    """Also where the penalty is far below the losses' curvature."""
    federation = Federation(Exact(rho=rho, relaxation=relaxation), Quadratic(UNEVEN))
    rounds = 800 if rho == 0.01 else 350
    federation.run(round(rounds / participation), participation, near=1e-9)
    assert federation.error() < 1e-9
    assert (federation.stack("dual") + slopes_u(federation)).abs().max() < 1e-9


def test_over_relaxation_saves_rounds(quadratic):
    """With everybody and exact solutions, as in the textbook."""
    plain = Federation(Exact(rho=0.3), quadratic)
    relaxed = Federation(Exact(rho=0.3, relaxation=1.6), quadratic)
    plain.run(60)
    relaxed.run(60)
    assert relaxed.error() < 0.1 * plain.error()


@pytest.mark.parametrize("name", ["relaxation", "dual_step"])
def test_one_is_the_plain_method(quadratic, name):
    ours = Federation(descending(**{name: 1.0}), quadratic)
    other = Federation(descending(), quadratic)
    for participants in ours.rounds(20, participation=0.5):
        other.round(participants)
        assert torch.equal(ours.server, other.server)
        for mine, theirs in zip(ours.clients, other.clients, strict=True):
            assert set(mine) == set(theirs) == {"shared", "personal", "dual"}
            assert all(torch.equal(mine[name], theirs[name]) for name in mine)


# The length of the dual step -------------------------------------------------------

DUAL_STEPS = (0.2, 1.5)


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("dual_step", DUAL_STEPS)
@pytest.mark.parametrize("relaxation", [1.0, 1.6])
@pytest.mark.parametrize("build", [descending, joint])
def test_rounds_with_another_dual_step_by_hand(build, weights, dual_step, relaxation):
    options = {"dual_step": dual_step, "relaxation": relaxation}
    federation = start(build(1.3, sigma=0.7, step=0.2, work=3, **options), weights)
    literal = Literal(
        federation, lr_u=0.2, lr_v=0.2, steps=3, joint=build is joint, **options
    )
    for participants in SCHEDULE:
        federation.round(participants)
        literal.round(participants)
        assert_agrees(federation, literal)


@pytest.mark.parametrize("participation", [1.0, 0.5])
@pytest.mark.parametrize("dual_step", DUAL_STEPS)
def test_any_dual_step_comes_to_rest_at_the_joint_minimiser(dual_step, participation):
    algorithm = Exact(rho=0.3, dual_step=dual_step)
    federation = Federation(algorithm, Quadratic(UNEVEN))
    federation.run(round(500 / participation), participation, near=1e-9)
    assert federation.error() < 1e-9
    assert (federation.stack("dual") + slopes_u(federation)).abs().max() < 1e-9


def test_a_short_dual_step_removes_the_drift_too(quadratic):
    ours = Federation(joint(0.1, step=0.5, work=20, dual_step=0.2), quadratic)
    ours.run(700, near=1e-12)
    assert ours.error() < 1e-12


# The participants' mean ------------------------------------------------------------


class LiteralOfParticipants(Literal):
    """The server's u from this round's copies and everybody's duals."""

    def __init__(self, federation, **options):
        super().__init__(federation, **options)
        self.u_server = super().server

    @property
    def server(self):
        return self.u_server

    def round(self, participants):
        super().round(participants)
        self.u_server = self.u[participants].mean(0) + self.pi.mean(0) / self.rho


def start_averaging_participants(algorithm, weights):
    """From a state in which nothing is zero, of which the server knows the duals."""
    federation = start(algorithm, weights)
    federation.server[1] = federation.stack("dual").mean(0) / algorithm.rho
    return federation


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("dual_step", [0.2, 1.0, 1.5])
@pytest.mark.parametrize("build", [descending, joint])
def test_rounds_with_the_participants_mean_by_hand(build, dual_step, weights):
    options = {"dual_step": dual_step} | PARTICIPANTS
    algorithm = build(1.3, sigma=0.7, step=0.2, work=3, **options)
    federation = start_averaging_participants(algorithm, weights)
    literal = LiteralOfParticipants(
        federation, lr_u=0.2, lr_v=0.2, steps=3, joint=build is joint,
        dual_step=dual_step,
    )  # fmt: skip
    for participants in SCHEDULE:
        federation.round(participants)
        literal.round(participants)
        assert_agrees(federation, literal)
        torch.testing.assert_close(
            federation.server[1], federation.stack("dual").mean(0) / 1.3,
            rtol=0, atol=1e-12,
        )  # fmt: skip


def test_the_participants_mean_is_feddyn_where_nothing_is_personal():
    """For weights 1/m: of penalty a/m and duals -g_i/m, for any participants."""
    clients = LeastSquares(WEIGHTS["uniform"], sizes=(4, 1, 5, 3, 7, 2))
    dynamic = FedDyn(penalty=0.6, lr=0.5, batch_size=0, work=LocalBudget(steps=4))
    ours = descending(0.1, step=6 * 0.5, work=4, **PARTICIPANTS)
    ours, other = Federation(ours, clients), Federation(dynamic, clients)
    for participants in other.rounds(40, participation=0.5):
        ours.round(participants)
        torch.testing.assert_close(ours.consensus, other.consensus, rtol=0, atol=1e-11)
        torch.testing.assert_close(
            -6 * ours.stack("dual"), other.stack("gradient"), rtol=0, atol=1e-11
        )
    assert (ours.consensus - clients.start_u).norm() > 0.1


@pytest.mark.parametrize("build", [descending, joint])
def test_the_participants_mean_is_the_mean_where_everybody_takes_part(build, quadratic):
    ours = Federation(build(**PARTICIPANTS), quadratic)
    other = Federation(build(), quadratic)
    ours.run(50)
    other.run(50)
    torch.testing.assert_close(ours.consensus, other.consensus, rtol=0, atol=1e-12)
    ours.round([1, 4])
    other.round([1, 4])
    assert (ours.consensus - other.consensus).norm() > 1e-4


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("dual_step", [0.3, 1.0])
@pytest.mark.parametrize("share", [None, 0.4])
@pytest.mark.parametrize("build", [descending, joint])
def test_the_participants_mean_comes_to_rest_at_the_joint_minimiser(
    build, dual_step, share, weights
):
    options = {"dual_step": dual_step, "dual_share": share} | PARTICIPANTS
    algorithm = build(0.1, step=1.0, work=10, **options)
    federation = start(algorithm, weights, lambda federation: None)
    federation.run(1000, participation=0.5, near=1e-10)
    assert federation.error() < 1e-10
    assert federation.stack("dual").sum(0).abs().max() < 1e-10
    assert (federation.stack("dual") + slopes_u(federation)).abs().max() < 1e-10


def test_nothing_moves_in_a_round_without_participants(quadratic):
    federation = Federation(descending(**PARTICIPANTS), quadratic)
    federation.round([1, 4])
    before = federation.server.clone()
    federation.round([])
    assert torch.equal(federation.server, before)
    federation.round([0])
    assert not torch.equal(federation.server, before)


def test_the_participants_mean_moves_all_the_way_at_first(quadratic):
    """By their mean change and |S|/m of it again; the mean over all by 2 |S|/m."""
    for average, share in (("all", 2 * 2 / 6), ("participants", 1 + 2 / 6)):
        federation = Federation(descending(server_average=average), quadratic)
        sent = federation.consensus.clone()
        federation.round([1, 4])
        change = federation.stack("shared")[[1, 4]].mean(0) - sent
        torch.testing.assert_close(federation.change, share * change)


@pytest.mark.parametrize(
    ("share", "factor", "wanted"), [(None, 0.1, 1.0), (0.5, 1.0, 0.5), (0.5, 0.1, 0.05)]
)
def test_the_share_of_the_duals_follows_the_step_size(quadratic, share, factor, wanted):
    """u is the mean of the participants' copies, and a share of all duals' mean."""
    algorithm = descending(dual_share=share, dual_step=0.7, **PARTICIPANTS)
    federation = Federation(algorithm, quadratic)
    for chosen in ([1, 4], [0, 1, 5]):
        federation.step_factor = factor
        federation.round(chosen)
        duals = federation.stack("dual").mean(0) / algorithm.rho
        copies = federation.stack("shared")[chosen].mean(0)
        torch.testing.assert_close(federation.consensus, copies + wanted * duals)


# Options that do not go together ---------------------------------------------------


ALONE = {"rho": 0.1, "sigma": 0.1, "lr_personal": 0.1, "lr_shared": 0.1}
WORK = LocalBudget(epochs=1)
IN_TURN = {"personal_work": WORK, "shared_work": WORK}
XI = LocalBudget(xi=0.1, decay=0.5, max_epochs=3)
XI_FREE = LocalBudget(steps=7)
TOGETHER = {"block_order": "joint", "joint_work": WORK}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (IN_TURN | {"joint_work": WORK}, ["joint_work", "alternate"]),
        (TOGETHER | {"personal_work": WORK}, ["personal_work", "joint"]),
        (TOGETHER | {"shared_work": WORK}, ["shared_work", "joint"]),
        (TOGETHER | {"v_step_at": "local"}, ["v_step_at", "joint"]),
        (TOGETHER | {"joint_work": XI}, ["joint_work", "xi"]),
        (IN_TURN | {"personal_work": XI}, ["personal_work", "xi"]),
        (IN_TURN | {"relaxation": 0.0}, ["relaxation"]),
        (IN_TURN | {"relaxation": 2.0}, ["relaxation"]),
        (IN_TURN | {"relaxation": -1.0}, ["relaxation"]),
        (IN_TURN | {"dual_step": 0.0}, ["dual_step"]),
        (IN_TURN | {"dual_step": 1.62}, ["dual_step", "1.618"]),
        (IN_TURN | PARTICIPANTS | {"relaxation": 1.5}, ["relaxation", "average"]),
        (IN_TURN | {"dual_share": 0.5}, ["dual_share", "server_average 'all'"]),
        (IN_TURN | PARTICIPANTS | {"dual_share": 0.0}, ["dual_share", "(0, 1]"]),
        (IN_TURN | PARTICIPANTS | {"dual_share": 1.1}, ["dual_share", "(0, 1]"]),
        (
            TOGETHER | PARTICIPANTS | {"residual_balancing": {}},
            ["residual_balancing", "server_average"],
        ),
        (
            TOGETHER | PARTICIPANTS | {"rho_schedule": {"growth": 1.1}},
            ["rho_schedule", "server_average"],
        ),
        (IN_TURN | {"residual_balancing": {"ratio": 1.0}}, ["ratio"]),
        (IN_TURN | {"residual_balancing": {"factor": 1.0}}, ["factor"]),
        (IN_TURN | {"residual_balancing": {"every": 0}}, ["every"]),
        (IN_TURN | {"residual_balancing": {"until": 0}}, ["until"]),
    ],
)
def test_refused_combinations_name_the_option(options, names):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (looked at below)
        FedAPM(batch_size=0, **ALONE, **options)
    assert all(name in str(caught.value) for name in names), caught.value


HALF, WHOLE = LocalBudget(epochs=1), LocalBudget(epochs=2)


@pytest.mark.parametrize(
    ("options", "order", "works"),
    [
        ({}, "joint", (None, None, WHOLE)),
        ({"block_order": "joint"}, "joint", (None, None, WHOLE)),
        ({"joint_work": XI_FREE}, "joint", (None, None, XI_FREE)),
        ({"block_order": "alternate"}, "alternate", (HALF, HALF, None)),
        ({"personal_work": XI_FREE}, "alternate", (XI_FREE, HALF, None)),
        ({"shared_work": XI}, "alternate", (HALF, XI, None)),
        ({"shared_work": {"steps": 7}}, "alternate", (HALF, XI_FREE, None)),
    ],
)
def test_the_order_of_blocks_follows_from_the_work_that_is_given(options, order, works):
    made = FedAPM(**options)
    assert made.block_order == order
    assert (made.personal_work, made.shared_work, made.joint_work) == works
    assert made.local_budgets() == [one for one in works if one is not None]


def test_plain_values_do_as_nested_options():
    """As a configuration file gives them."""
    algorithm = FedAPM(
        batch_size=0,
        **ALONE,
        block_order="joint",
        joint_work={"steps": 3},
        residual_balancing={"ratio": 5.0, "until": 9},
        lipschitz={"u": 1.0, "v": 2.0, "uv": 3.0},
    )
    assert algorithm.joint_work == LocalBudget(steps=3)
    assert (algorithm.residual_balancing.ratio, algorithm.residual_balancing.until) == (
        5.0,
        9,
    )
    assert algorithm.lipschitz.uv == 3.0
    state = algorithm.new_client(torch.zeros(DIM_U), torch.zeros(DIM_V))
    assert set(state) == {"shared", "personal", "dual", "rho"}


# Without samples -------------------------------------------------------------------


@pytest.mark.parametrize("u_init", ["global", "local"])
@pytest.mark.parametrize("build", [descending, joint])
def test_a_client_without_samples_follows_the_server(build, u_init):
    """Its own old copy would hold the server at the initial model for good."""
    algorithm = build(0.1, u_init=u_init)
    federation = Federation(algorithm, LeastSquares(UNEVEN))
    for _ in range(5):
        sent = federation.consensus.clone()
        federation.round(range(6))
        assert torch.equal(federation.clients[EMPTY]["shared"], sent)
        assert not federation.clients[EMPTY]["dual"].any()
    assert (federation.consensus - federation.quadratic.start_u).abs().max() > 0.01
