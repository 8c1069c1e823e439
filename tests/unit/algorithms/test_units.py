"""The unit of step sizes, penalties and duals: a client's own loss, or weighed.

For equal weights both are one iteration, in other numbers; for any weights both have
the closed-form minimiser of the weighted sum of losses.
"""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from fedapm_mpi.algorithms._consensus_admm import ResidualBalancing
from fedapm_mpi.algorithms.base import LocalBudget, RoundInfo
from fedapm_mpi.algorithms.fedadmm import FedADMM
from fedapm_mpi.algorithms.fedapm import FedAPM
from fedapm_mpi.algorithms.flame import Flame
from fedapm_mpi.algorithms.iceadmm import ICEADMM
from fedapm_mpi.algorithms.iiadmm import IIADMM
from fedapm_mpi.optim.fedapm_theory import Lipschitz
from fedapm_mpi.optim.solver import LocalSolver
from tests.support.oracles.exact_admm import Exact
from tests.support.oracles.in_memory_federation import (
    UNEVEN,
    Federation,
    increases,
    solving,
)
from tests.support.oracles.quadratic import DIM_U, Quadratic
from tests.support.oracles.whole_models import Losses

M = 6
EQUAL = (1 / M,) * M
BALANCE = {"residual_balancing": ResidualBalancing(ratio=2.0, residuals="relative")}
BOUNDED = {
    "residual_balancing": ResidualBalancing(
        ratio=2.0, residuals="relative", rho_max=3.6
    )
}
"""For a step size of 0.3, which is too long for a penalty of 7."""

CHOSEN = {"server_average": "participants"}
ALTERNATE = {
    "personal_work": LocalBudget(steps=4),
    "shared_work": LocalBudget(steps=4),
}
JOINT = {"block_order": "joint", "joint_work": LocalBudget(steps=6)}
WHOLE = {"batch_size": 0, "work": LocalBudget(steps=4), "weight_decay": 0.1}

APM = {
    "alternate": ALTERNATE,
    "local": ALTERNATE | {"v_step_at": "local", "u_init": "local"},
    "joint": JOINT | {"weight_decay": 0.1},
    "participants": JOINT | CHOSEN | {"dual_step": 0.5},
    "participants in turn": ALTERNATE | CHOSEN,
    "relaxed": JOINT | {"relaxation": 1.6},
    "balanced": ALTERNATE | BALANCE,
}
"""Options of FedAPM."""

STEPS = {FedADMM: {"lr": 0.3}, IIADMM: {"zeta": 2.0}, ICEADMM: {"curvature": 2.5}}
METHODS = {
    "fedadmm": (FedADMM, {"relaxation": 1.6}),
    "fedadmm, balanced": (FedADMM, BOUNDED),
    "fedadmm, participants": (FedADMM, CHOSEN | {"lr_server": 0.7}),
    "iiadmm": (IIADMM, {"dual_step": 0.7}),
    "iiadmm, local": (IIADMM, {"init": "local"} | BALANCE),
    "iceadmm": (ICEADMM, {}),
    "iceadmm, balanced": (ICEADMM, BALANCE),
}
"""Methods that share all parameters, but FLAME."""


def apm(options, rho=0.6, sigma=0.2, step=0.2, **more):
    """FedAPM with a few gradient steps, in units of a client's own loss."""
    steps = {"lr_personal": step, "lr_shared": step, "batch_size": 0}
    return FedAPM(rho=rho, sigma=sigma, **steps | options | more)


def whole(name, rho=0.9):
    """Return a method that shares all parameters, in units of a client's own loss."""
    kind, options = METHODS[name]
    return kind(rho=rho, **STEPS[kind], **WHOLE, **options)


def flame(rho=0.9):
    work = {"personal_work": LocalBudget(steps=4), "lr_personal": 0.3}
    return Flame(rho=rho, lam=0.8, batch_size=0, weight_decay=0.1, **work)


def weighted(algorithm):
    """Return the method in the weighted form that is the same for equal weights."""
    times = {"lr": M, "lr_shared": M, "lr_personal": M}
    times |= dict.fromkeys(("rho", "sigma", "zeta"), 1 / M)
    if isinstance(algorithm, Flame):  # whose personal step is not weighed in either
        del times["lr_personal"]
    known = {key: x for key, x in times.items() if hasattr(algorithm, key)}
    changed = {key: getattr(algorithm, key) * x for key, x in known.items()}
    balance = getattr(algorithm, "residual_balancing", None)
    if balance is not None and balance.rho_max is not None:
        rho_max = balance.rho_max / M
        changed["residual_balancing"] = replace(balance, rho_max=rho_max)
    return replace(algorithm, units="weighted", **changed)


def method(name):
    """Return a method and the losses that it is for, given their weights."""
    if name in APM:
        return apm(APM[name]), Quadratic
    return (flame() if name == "flame" else whole(name)), Losses


NAMES = [*APM, *METHODS, "flame"]
each_name = pytest.mark.parametrize("name", NAMES)
each_participation = pytest.mark.parametrize("participation", [1.0, 0.5])


def close(a, b, tolerance=1e-12):
    expected = torch.as_tensor(b, dtype=torch.float64)
    torch.testing.assert_close(a, expected, rtol=tolerance, atol=tolerance)


# The same iteration ----------------------------------------------------------------


@each_participation
@each_name
def test_for_equal_weights_it_is_the_weighted_form_in_other_numbers(
    name, participation
):
    """Penalties and duals are m times, step sizes one m-th."""
    algorithm, losses = method(name)
    ours = Federation(algorithm, losses(EQUAL))
    other = Federation(weighted(algorithm), losses(EQUAL))
    used = set()
    for chosen in ours.rounds(30, participation):
        other.round(chosen)
        close(ours.consensus, other.consensus)
        for key in ("shared", "personal"):
            close(ours.stack(key), other.stack(key))
        close(ours.stack("dual"), M * other.stack("dual"))
        if getattr(algorithm, "residual_balancing", None) is not None:
            used.add(ours.adapt())
            assert ours.algorithm.rho == pytest.approx(M * other.adapt(), rel=1e-14)
    assert len(used) != 1, "the penalty never changed"


class Copies(Quadratic):
    """The losses of `Quadratic`, each held by several clients of equal weight."""

    def __init__(self, copies):
        super().__init__(EQUAL)
        self.m = M * copies
        self.weights = torch.full((self.m,), 1 / self.m, dtype=torch.float64)
        self.a, self.b = (x.repeat(copies, 1, 1) for x in (self.a, self.b))
        self.c = self.c.repeat(copies, 1)


@pytest.mark.parametrize("name", APM)
def test_a_configuration_is_the_same_for_many_clients(name):
    """Seven copies of every client, with the same options, train alike."""
    algorithm = apm(APM[name])
    few, many = Federation(algorithm, Copies(1)), Federation(algorithm, Copies(7))
    for _ in few.rounds(20):
        many.round(range(7 * M))
        close(few.consensus, many.consensus)
        close(few.stack("personal"), many.stack("personal")[:M])
        if algorithm.adapts_penalty():
            assert few.adapt() == many.adapt()
    other = replace(algorithm, units="weighted")
    few, many = Federation(other, Copies(1)), Federation(other, Copies(7))
    few.run(20)
    many.run(20)
    assert (few.consensus - many.consensus).abs().max() > 1e-3, "the control"


# Formulas --------------------------------------------------------------------------


@pytest.mark.parametrize("participation", [1.0, 0.5, 1 / 6])
@pytest.mark.parametrize("relaxation", [1.0, 1.6])
def test_server_minimises_over_u_given_every_clients_own_penalty(
    participation, relaxation
):
    """u = sum a_i (rho_i u_i + pi_i) / sum a_i rho_i; the slope by autograd is 0."""
    options = {"relaxation": relaxation, "residual_balancing": ResidualBalancing()}
    federation = Federation(apm(ALTERNATE | options), Quadratic(UNEVEN))
    alpha = torch.tensor(UNEVEN, dtype=torch.float64)
    own = torch.full((M,), 0.6, dtype=torch.float64)
    rng = np.random.default_rng(4)
    for rho in (0.6, 1.2, 2.4, 0.6, 0.3, 1.8, 18.0, 1.8) * 3:
        federation.change_penalty(rho)
        chosen = rng.permutation(M)[: round(M * participation)].tolist()
        federation.round(chosen)
        own[chosen] = rho
        copies, dual = federation.stack("shared"), federation.stack("dual")
        votes = (alpha * own)[:, None] * copies + alpha[:, None] * dual
        close(federation.consensus, votes.sum(0) / (alpha @ own), 1e-11)
        u = federation.consensus.clone().requires_grad_()
        gaps = copies - u
        terms = (dual * gaps).sum(1) + 0.5 * own * (gaps**2).sum(1)
        (slope,) = torch.autograd.grad(alpha @ terms, u)
        assert slope.abs().max() < 1e-10 * max(1, rho)


def test_participants_copies_and_all_duals_have_their_weights():
    """The one mean is over the participants' weights, the other over all."""
    federation = Federation(apm(APM["participants"]), Quadratic(UNEVEN))
    alpha = torch.tensor(UNEVEN, dtype=torch.float64)
    for chosen in ([0, 2], [1, 3, 5], [4], [0, 1, 2, 3, 4, 5], [5], [0, 2]) * 3:
        federation.round(chosen)
        here = alpha[chosen]
        copies = here @ federation.stack("shared")[chosen] / here.sum()
        pull = alpha @ federation.stack("dual") / federation.algorithm.rho
        close(federation.consensus, copies + pull, 1e-12)


def test_fedadmms_participants_mean_is_by_weight():
    federation = Federation(whole("fedadmm, participants"), Losses(UNEVEN))
    alpha, rho = torch.tensor(UNEVEN, dtype=torch.float64), 0.9

    def votes():
        return federation.stack("shared") + federation.stack("dual") / rho

    for chosen in ([0, 2], [1, 3, 5], [4], [0, 1, 2, 3, 4, 5]) * 3:
        before, sent, here = votes(), federation.consensus.clone(), alpha[chosen]
        federation.round(chosen)
        change = here @ (votes() - before)[chosen] / here.sum()
        close(federation.consensus, sent + 0.7 * change)


def test_a_local_problem_knows_no_weight():
    """From the same state, clients with other weights do the same work."""
    ends = []
    for weights in (UNEVEN, EQUAL, UNEVEN[::-1]):
        federation = Federation(apm(JOINT), Quadratic(weights))
        federation.round(range(M))
        ends.append([federation.stack(k) for k in ("shared", "personal", "dual")])
    for end in ends[1:]:
        assert all(torch.equal(a, b) for a, b in zip(end, ends[0], strict=True))


def test_iceadmms_and_flames_steps_know_no_weight():
    algorithm = whole("iceadmm")
    assert algorithm.step_size(algorithm.loss_factor(0.01)) == 1 / (0.9 + 2.5)
    one, other = (Federation(flame(), Losses(w)) for w in (UNEVEN, EQUAL))
    one.round(range(M))
    other.round(range(M))
    for key in ("shared", "own", "dual"):
        assert torch.equal(one.stack(key), other.stack(key))
    theta, start = one.stack("own"), one.quadratic.start_u
    close(one.stack("shared"), (0.8 * theta + 0.9 * start) / (0.8 + 0.9))


@pytest.mark.parametrize("kind", [FedAPM, FedADMM, Flame])
def test_nobody_has_a_weight_where_nobody_has_samples(kind):
    """A segment whose holders are all empty stays as it is."""
    algorithm = {
        FedAPM: apm(JOINT | CHOSEN), FedADMM: whole("fedadmm"), Flame: flame(),
    }[kind]  # fmt: skip
    height = 1 + algorithm.server_memory_rows()
    server, total = torch.ones(height, 3).double(), torch.zeros(1, 3).double()
    penalties = None if kind is Flame else (0.0, 0.0)
    nothing = RoundInfo(0, 2, 1, 0.0, penalties, weight_total=0.0)
    algorithm.server_step(server, total, nothing)
    assert torch.equal(server, torch.ones(height, 3).double())


def test_the_lagrangian_is_that_of_the_weighted_problem():
    quadratic = Quadratic(UNEVEN)
    federation = Federation(apm(ALTERNATE), quadratic)
    federation.run(3, 0.5)
    v, u, dual = (federation.stack(k) for k in ("personal", "shared", "dual"))
    losses = quadratic.loss(v, u)
    found = [
        federation.algorithm.lagrangian(
            client, federation.consensus, float(loss), float(alpha)
        )
        for client, loss, alpha in zip(
            federation.clients, losses, quadratic.weights, strict=True
        )
    ]
    gap = u - federation.consensus
    terms = losses + (dual * gap).sum(1) + 0.3 * (gap**2).sum(1)
    assert sum(share for share, _ in found) == pytest.approx(
        float(quadratic.weights @ terms), rel=1e-13
    )
    assert {excess for _, excess in found} == {0.0}


def test_lyapunovs_excess_is_weighed():
    tolerance = {"xi": 0.5, "decay": 0.5, "max_epochs": 3}
    algorithm = apm(ALTERNATE | {"shared_work": LocalBudget(**tolerance)})
    client = algorithm.new_client(torch.zeros(2), torch.zeros(1))
    _, excess = algorithm.lagrangian(client, torch.zeros(2), 0.0, 0.2)
    assert excess == pytest.approx(0.2 * 29 * 0.5 / (0.6 * 0.5))


# Where they come to rest -----------------------------------------------------------


@each_participation
@pytest.mark.parametrize("name", APM)
def test_fedapm_comes_to_rest_at_the_joint_minimiser(name, participation):
    quadratic = Quadratic(UNEVEN)
    options = {k: v for k, v in APM[name].items() if k != "weight_decay"}
    federation = Federation(apm(options, rho=0.5, sigma=0.01), quadratic)
    rounds = federation.rounds(round(700 / participation), participation, near=1e-8)
    for t, _ in enumerate(rounds):
        if federation.algorithm.adapts_penalty() and t < 50:
            federation.adapt()
    assert federation.error() < 1e-8
    v, u = federation.stack("personal"), federation.stack("shared")
    close(u, federation.consensus.expand(M, -1), 1e-8)
    dual = federation.stack("dual")
    close(dual, -quadratic.gradient_u(v, u), 1e-8)
    assert (quadratic.weights @ dual).abs().max() < 1e-8


@each_participation
@pytest.mark.parametrize("name", [*METHODS, "flame"])
def test_whole_models_come_to_rest_at_the_minimiser(name, participation):
    if "participants" in name:
        if participation < 1:
            pytest.skip("it rests elsewhere, as in the weighted form")
        algorithm = replace(whole(name), lr_server=1.0)
    else:
        algorithm = flame() if name == "flame" else whole(name)
    losses = Losses(UNEVEN)
    federation = Federation(algorithm, losses)
    for t, _ in enumerate(federation.rounds(round(250 / participation), participation)):
        if name != "flame" and algorithm.adapts_penalty() and t < 20:
            federation.adapt()
    goal = losses.envelope_minimiser() if name == "flame" else losses.minimiser()
    close(federation.consensus, goal, 1e-8)
    close(federation.stack("shared"), goal.expand(M, -1), 1e-8)
    assert (losses.weights @ federation.stack("dual")).abs().max() < 1e-8


# Balancing and theory --------------------------------------------------------------


@pytest.mark.parametrize(("start", "way"), [(6e-4, 1), (6e3, -1)])
@pytest.mark.parametrize("residuals", ["relative", "absolute"])
def test_a_bad_penalty_mends(start, way, residuals):
    """Either form of the residuals leads it to where the minimiser is reached."""
    balance = ResidualBalancing(ratio=2.0, residuals=residuals)
    algorithm = Exact(rho=start, residual_balancing=balance, units="client")
    federation = Federation(algorithm, Quadratic(UNEVEN))
    used = []
    for _ in federation.rounds(1200):
        used.append(federation.adapt())
        if federation.error() < 1e-8:
            break
    assert federation.error() < 1e-8
    assert (np.diff(np.log2(used[:8])) * way >= 0).all()
    assert 0.05 < used[-1] < 60
    constant = Federation(Exact(rho=start, units="client"), Quadratic(UNEVEN))
    constant.run(len(used))
    assert constant.error() > 1e-3


def client_conditions(quadratic):
    """Return the smallest rho and sigma of the theory, of a client's own loss."""
    rho = 3 * max(quadratic.l_u, quadratic.l_uv)
    return rho, max(8 * rho / 15, quadratic.l_v)


@pytest.mark.parametrize("participation", [1.0, 0.5])
def test_the_lagrangian_falls_under_the_conditions_of_a_clients_own_loss(participation):
    quadratic = Quadratic(UNEVEN)
    rho, sigma = client_conditions(quadratic)
    algorithm = solving(quadratic, rho, sigma, units="client")
    federation = Federation(algorithm, quadratic)
    values = []
    for _ in federation.rounds(120, participation):
        v, u, dual = (federation.stack(k) for k in ("personal", "shared", "dual"))
        gap = u - federation.consensus
        terms = quadratic.loss(v, u) + (dual * gap).sum(1)
        terms += 0.5 * rho * (gap**2).sum(1)
        values.append(float(quadratic.weights @ terms))
    assert increases(values) == 0
    assert values[0] - values[-1] > 1e-3


@pytest.mark.parametrize(("rho", "sigma", "unmet"), [(6.0, 3.2, 0), (5.9, 2.1, 3)])
def test_conditions_are_reported_of_a_clients_own_loss(rho, sigma, unmet):
    """With 3 L = 6, sigma from 8 rho / 15 and from L_v = 2.2 on."""
    constants = {"lipschitz": Lipschitz(u=2.0, v=2.2, uv=1.0)}
    algorithm = apm(ALTERNATE, rho=rho, sigma=sigma, **constants)
    for weights in (UNEVEN, EQUAL, [1e-4] * 10_000):
        found = algorithm.warnings(weights)
        assert len(found) == unmet
        assert not any("alpha" in text for text in found)


def test_a_weight_in_the_v_step_is_refused_where_it_has_no_effect():
    with pytest.raises(ValueError, match="alpha_in_v_step has no effect with units"):
        apm(ALTERNATE | {"alpha_in_v_step": False})
    apm(ALTERNATE | {"alpha_in_v_step": False, "units": "weighted"})


def test_the_default_is_a_clients_own_loss():
    made = [apm(JOINT), flame(), *(whole(name) for name in METHODS)]
    assert all(one.client_units() is True for one in made)
    assert not any(replace(one, units="weighted").client_units() for one in made)


def test_messages_have_the_size_of_u():
    for name, chosen in product(("alternate", "participants"), ([0], [2, 4])):
        federation = Federation(apm(APM[name]), Quadratic(UNEVEN))
        federation.round(chosen)
        for sent in federation.increment.values():
            assert sent.shape == (1, DIM_U)
            assert sent.dtype == torch.float64


# Parameters that some clients lack ---------------------------------------------------


class Part:
    """Half x'Hx - b'x, of the coordinates of u that one client holds."""

    def __init__(self, hessian, b):
        self.hessian, self.b = hessian, b
        self.shared, self.personal = torch.zeros_like(b), b.new_zeros(0)
        self.solver = LocalSolver()

    def batches(self, phase, work, size):
        yield from [None] * work.steps

    def gradient(self, block, batch):
        return self.hessian @ self.shared - self.b


SEGMENTS = {(0, 1): range(M), (2,): (0, 1, 2), (3,): (2, 3, 4, 5)}
"""Coordinates of u, and the clients that hold them."""


@pytest.mark.parametrize("server_average", ["all", "participants"])
@each_participation
def test_each_segment_is_weighed_over_its_holders(server_average, participation):
    """The minimiser of sum alpha_i f_i(R_i u), R_i picking what client i holds."""
    rng = np.random.default_rng(9)
    held = [
        [k for of, who in SEGMENTS.items() if i in who for k in of] for i in range(M)
    ]
    matrix, target = torch.zeros(4, 4).double(), torch.zeros(4).double()
    problems = []
    for i, cols in enumerate(held):
        root = torch.tensor(rng.normal(size=(len(cols), len(cols)))) / 2
        hessian = root @ root.T + 0.3 * torch.eye(len(cols))
        problems.append(Part(hessian, torch.tensor(rng.normal(size=len(cols)))))
        matrix[np.ix_(cols, cols)] += UNEVEN[i] * hessian
        target[cols] += UNEVEN[i] * problems[i].b
    algorithm = apm(JOINT, rho=0.5, step=0.2, server_average=server_average)
    server = torch.zeros(1 + algorithm.server_memory_rows(), 4).double()
    clients = [algorithm.new_client(server[0, cols], server[0, :0]) for cols in held]
    for t in range(round(150 / participation)):
        chosen = rng.permutation(M)[: round(M * participation)].tolist()
        total = torch.zeros(1, 4).double()
        for i in chosen:
            sent = server[:1, held[i]].clone()
            total[:, held[i]] += algorithm.client_step(
                sent, clients[i], problems[i], UNEVEN[i]
            )
        for of, who in SEGMENTS.items():
            here = [i for i in chosen if i in who]
            all_, some = (sum(UNEVEN[i] for i in ids) for ids in (who, here))
            facts = RoundInfo(t, len(who), len(here), some, (all_, all_), all_)
            at = slice(of[0], of[-1] + 1)
            algorithm.server_step(server[:, at], total[:, at], facts)
    close(server[0], torch.linalg.solve(matrix, target), 1e-8)
