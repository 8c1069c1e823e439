"""FedProx, SCAFFOLD and FedDyn against their papers' formulas, written out in numpy."""

from itertools import product

import numpy as np
import pytest
import torch

from fedapm_mpi.algorithms.base import LocalBudget
from fedapm_mpi.algorithms.fedapm import FedAPM
from fedapm_mpi.algorithms.fedavg import FedAvg
from fedapm_mpi.algorithms.feddyn import FedDyn
from fedapm_mpi.algorithms.fedprox import FedProx
from fedapm_mpi.algorithms.scaffold import Scaffold
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from tests.support.oracles.in_memory_federation import UNEVEN, Federation, snapshot
from tests.support.oracles.least_squares import EMPTY, SIZES, LeastSquares
from tests.support.oracles.quadratic import DIM_U

WEIGHTS = {"uniform": (1 / 6,) * 6, "uneven": UNEVEN}
ROUNDS = ([0, 2, 3], [4], [0, 1, 2, 3, 4, 5], [EMPTY], [1, 3, 4])
DECAY = 0.3
LOCAL = {
    "epochs": {"lr": 0.2, "batch_size": 2, "work": LocalBudget(epochs=2)},
    "steps": {
        "lr": 0.1,
        "batch_size": 2,
        "work": LocalBudget(steps=3),
        "weight_decay": DECAY,
    },
}

each_weights = pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
each_local = pytest.mark.parametrize("local", LOCAL.values(), ids=LOCAL)
each_case = pytest.mark.parametrize(
    ("weights", "participation"), list(product(WEIGHTS.values(), [1.0, 0.5]))
)
each_control = pytest.mark.parametrize("control_variate", ["gradient", "steps"])


def full(steps, lr=0.5):
    """Return options of so many full-batch steps."""
    work = LocalBudget(steps=steps)
    return {"lr": lr, "batch_size": 0, "work": work, "weight_decay": DECAY}


def close(tensor, array, atol=1e-12):
    expected = torch.as_tensor(np.asarray(array), dtype=torch.float64)
    torch.testing.assert_close(tensor.double(), expected, rtol=0, atol=atol)


def mean(clients, chosen, vectors):
    """Return the participants' weighted mean."""
    alpha = clients.alpha
    return sum(alpha[i] * vectors[i] for i in chosen) / sum(alpha[i] for i in chosen)


# Rounds written out ----------------------------------------------------------------


@each_local
@each_weights
def test_fedprox_does_what_its_paper_says(local, weights):
    clients, mu = LeastSquares(weights), 0.7
    federation = Federation(FedProx(mu=mu, **local), clients)
    w = clients.start_u.numpy()
    for chosen in ROUNDS:
        federation.round(chosen)
        ends = {}
        for i in chosen:
            ends[i], _ = clients.descend(i, w, lambda at, w=w: mu * (at - w), **local)
            close(federation.clients[i]["shared"], ends[i])
        w = mean(clients, chosen, ends)
        close(federation.server, [w])


@each_local
@each_weights
@each_control
@pytest.mark.parametrize("lr_server", [1.0, 0.6])
def test_scaffold_does_what_its_paper_says(local, weights, control_variate, lr_server):
    clients, decay = LeastSquares(weights), local.get("weight_decay", 0.0)
    algorithm = Scaffold(control_variate=control_variate, lr_server=lr_server, **local)
    federation = Federation(algorithm, clients)
    x, c = clients.start_u.numpy(), np.zeros(DIM_U)
    controls = np.zeros((6, DIM_U))
    for chosen in ROUNDS:
        federation.round(chosen)
        ends, change_c = {}, np.zeros(DIM_U)
        for i in chosen:
            new, correction = controls[i], c - controls[i]
            ends[i], steps = clients.descend(i, x, lambda _, d=correction: d, **local)
            close(federation.clients[i]["shared"], ends[i])
            if steps and control_variate == "gradient":
                new = clients.gradient(i, x, decay)
            elif steps:
                new = controls[i] - c + (x - ends[i]) / (steps * local["lr"])
            change_c += clients.alpha[i] * (new - controls[i])
            controls[i] = new
            assert federation.increment[i].shape == (2, DIM_U)
        x = x + lr_server * (mean(clients, chosen, ends) - x)
        c = c + change_c
        close(federation.server, [x, c])
        close(federation.stack("control"), controls)


@each_local
@each_weights
def test_feddyn_does_what_its_paper_says(local, weights):
    clients, a = LeastSquares(weights), 0.4
    federation = Federation(FedDyn(penalty=a, **local), clients)
    theta, h, own = clients.start_u.numpy(), np.zeros(DIM_U), np.zeros((6, DIM_U))
    for chosen in ROUNDS:
        federation.round(chosen)
        ends = {}
        for i in chosen:
            ends[i], _ = clients.descend(
                i, theta, lambda at, g=own[i], t=theta: -g + a * (at - t), **local
            )
            close(federation.clients[i]["shared"], ends[i])
            own[i] = own[i] - a * (ends[i] - theta)
            h = h - a * clients.alpha[i] * (ends[i] - theta)
            assert federation.increment[i].shape == (1, DIM_U)
        theta = mean(clients, chosen, ends) - h / a
        close(federation.server, [theta, h])
        close(federation.stack("gradient"), own)


# Where they come to rest -----------------------------------------------------------


@each_case
@each_control
def test_scaffold_reaches_the_minimiser_where_fedavg_stalls(
    weights, participation, control_variate
):
    clients = LeastSquares(weights)
    goal = clients.minimiser(DECAY)
    algorithm = Scaffold(control_variate=control_variate, **full(4))
    federation = Federation(algorithm, clients)
    federation.run(130, participation)
    close(federation.consensus, goal, atol=1e-11)
    slopes = [clients.gradient(i, goal, DECAY if n else 0) for i, n in enumerate(SIZES)]
    close(federation.stack("control"), slopes, atol=1e-10)
    fedavg = Federation(FedAvg(**full(4)), clients)
    fedavg.run(130)
    assert np.linalg.norm(fedavg.consensus.numpy() - goal) > 0.01


@each_case
@pytest.mark.parametrize("steps", [4, 30])
def test_feddyn_reaches_the_minimiser(weights, participation, steps):
    """With a few steps on local problems, and with local problems solved."""
    clients = LeastSquares(weights)
    federation = Federation(FedDyn(penalty=1.0, **full(steps)), clients)
    federation.run(130, participation)
    close(federation.consensus, clients.minimiser(DECAY), atol=1e-11)
    close(federation.server[1], np.zeros(DIM_U), atol=1e-11)


def test_feddyn_keeps_the_gradient_at_the_solution_of_the_local_problem():
    clients = LeastSquares(UNEVEN)
    federation = Federation(FedDyn(penalty=1.0, **full(40)), clients)
    for chosen in federation.rounds(5, 0.5):
        for i in set(chosen) - {EMPTY}:
            theta = federation.clients[i]["shared"].numpy()
            expected = clients.gradient(i, theta, DECAY)
            close(federation.clients[i]["gradient"], expected)


@each_weights
def test_fedprox_rests_where_proximal_steps_cancel_and_not_at_the_minimiser(weights):
    """With local problems solved sum_i alpha_i (H_i + mu)^-1 grad f_i(w) = 0 there."""
    clients, mu = LeastSquares(weights), 0.5
    federation = Federation(FedProx(mu=mu, **full(40, lr=0.77)), clients)
    federation.run(100)
    w = federation.consensus.numpy()

    def step(i):
        matrix = clients.hessian(i, DECAY) + mu * np.eye(DIM_U)
        return np.linalg.solve(matrix, clients.gradient(i, w, DECAY))

    assert np.abs(clients.weighted(step)).max() < 1e-12
    assert np.linalg.norm(w - clients.minimiser(DECAY)) > 0.01


# Invariants and special cases ------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@each_control
def test_scaffolds_c_is_the_weighted_sum_of_all_clients(control_variate, dtype):
    """In single precision too: what is sent is the change of what is stored."""
    algorithm = Scaffold(control_variate=control_variate, **LOCAL["steps"])
    federation = Federation(algorithm, LeastSquares(UNEVEN, dtype=dtype))
    for _ in federation.rounds(40, 0.5):
        controls = federation.stack("control")
        assert controls.dtype == dtype
        close(federation.server[1], np.array(UNEVEN) @ controls.numpy(), atol=1e-14)


@each_control
def test_scaffold_with_one_full_step_is_gradient_descent(control_variate):
    """If everybody has samples: who takes no step is not corrected either."""
    clients = LeastSquares(UNEVEN, sizes=(4, 1, 2, 3, 7, 2))
    algorithm = Scaffold(control_variate=control_variate, **full(1))
    federation = Federation(algorithm, clients)
    w = clients.start_u.numpy()
    for _ in range(20):
        federation.round(range(6))
        w = w - 0.5 * clients.weighted(lambda i, w=w: clients.gradient(i, w, DECAY))
        close(federation.consensus, w)


@each_local
def test_fedprox_without_its_term_is_fedavg_bit_for_bit(local):
    options = local | {"server_average": "all"}
    ours = Federation(FedProx(mu=0, **options), LeastSquares(UNEVEN))
    other = Federation(FedAvg(**options), LeastSquares(UNEVEN))
    for chosen in ROUNDS:
        ours.round(chosen)
        other.round(chosen)
        assert torch.equal(ours.server, other.server)
        assert torch.equal(ours.stack("shared"), other.stack("shared"))


@each_local
def test_scaffolds_first_round_is_fedavgs_bit_for_bit(local):
    ours = Federation(Scaffold(**local), LeastSquares(UNEVEN))
    other = Federation(FedAvg(**local), LeastSquares(UNEVEN))
    for same in (True, False):
        ours.round([0, 2, 3])
        other.round([0, 2, 3])
        assert torch.equal(ours.consensus, other.consensus) == same


def test_feddyn_with_everyone_is_fedapm_without_a_personal_block():
    """For weights 1/m: of penalty a/m and duals -g_i/m, as FedAPM's loss is f_i/m."""
    ours, clients = FedDyn(penalty=0.6, **full(4)), LeastSquares(WEIGHTS["uniform"])
    other = FedAPM(
        rho=0.1,
        sigma=0.0,
        lr_personal=1.0,
        lr_shared=6 * 0.5,
        batch_size=0,
        personal_work=LocalBudget(steps=1),
        shared_work=LocalBudget(steps=4),
        weight_decay=DECAY,
    )
    ours, other = Federation(ours, clients), Federation(other, clients)
    sampled = [i for i, n in enumerate(SIZES) if n]
    for _ in range(30):
        ours.round(range(6))
        other.round(range(6))
        close(ours.consensus, other.consensus)
        close(ours.stack("gradient")[sampled], -6 * other.stack("dual")[sampled])


# What stays, and what is refused ---------------------------------------------------


OPTIONS = {"fedprox": {"mu": 0.7}, "scaffold": {}, "feddyn": {"penalty": 0.4}}
CLASSES = {"fedprox": FedProx, "scaffold": Scaffold, "feddyn": FedDyn}


@pytest.mark.parametrize("name", CLASSES)
def test_who_sits_out_keeps_every_bit_and_who_weighs_nothing_changes_nothing(name):
    algorithm = CLASSES[name](**OPTIONS[name], **LOCAL["steps"])
    assert algorithm.sharing == "all"
    federation = Federation(algorithm, LeastSquares((0.2, 0.2, 0.0, 0.2, 0.2, 0.2)))
    for chosen in ROUNDS:
        before, server = snapshot(federation), federation.server.clone()
        federation.round(chosen)
        for i in set(range(6)) - set(chosen):
            for key, value in federation.clients[i].items():
                assert torch.equal(value, before[i][key])
        assert torch.equal(federation.server, server) == (chosen == [EMPTY])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "fedprox"}, "mu: missing"),
        ({"name": "fedprox", "mu": -1}, "mu: input should be greater than or equal"),
        ({"name": "scaffold", "lr_server": 0}, "lr_server: input should be greater"),
        ({"name": "scaffold", "control_variate": "both"}, "control_variate"),
        ({"name": "scaffold", "server_average": "all"}, "server_average: unknown key"),
        ({"name": "feddyn", "penalty": 0}, "penalty: input should be greater than 0"),
        ({"name": "feddyn", "penalty": 1, "rho": 1}, "rho: unknown key"),
    ],
)
def test_refused_options(options, words):
    local = {"lr": 0.1, "batch_size": 2, "work": {"epochs": 1}}
    tree = {"data": "somewhere", "rounds": 1, "model": "mlp"}
    with pytest.raises(ConfigError) as caught:
        validate(tree | {"algorithm": local | options}, "test")
    assert words in str(caught.value)


@pytest.mark.parametrize("name", CLASSES)
def test_a_tolerance_is_refused(name):
    work = LocalBudget(xi=0.1, decay=0.5, max_epochs=2)
    with pytest.raises(ValueError, match="only fedapm"):
        CLASSES[name](**OPTIONS[name] | LOCAL["steps"] | {"work": work})
