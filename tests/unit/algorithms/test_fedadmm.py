"""FedADMM, IIADMM and ICEADMM against their papers' formulas, written out in numpy."""

from functools import cache
from itertools import product

import numpy as np
import pytest
import torch

from fedapm_mpi.algorithms.base import LocalBudget
from fedapm_mpi.algorithms.fedadmm import FedADMM
from fedapm_mpi.algorithms.fedapm import FedAPM
from fedapm_mpi.algorithms.fedavg import FedAvg
from fedapm_mpi.algorithms.iceadmm import ICEADMM
from fedapm_mpi.algorithms.iiadmm import IIADMM
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from tests.support.oracles.in_memory_federation import UNEVEN, Federation, snapshot
from tests.support.oracles.least_squares import EMPTY, SIZES, LeastSquares, order
from tests.support.oracles.quadratic import DIM_U

WEIGHTS = {"uniform": (1 / 6,) * 6, "uneven": UNEVEN}
ROUNDS = ([0, 2, 3], [4], [0, 1, 2, 3, 4, 5], [EMPTY], [1, 3, 4], [0, 2, 3])
DECAY = 0.3
LOCAL = {
    "epochs": {"batch_size": 2, "work": LocalBudget(epochs=2)},
    "steps": {"batch_size": 2, "work": LocalBudget(steps=3), "weight_decay": DECAY},
    "full": {"batch_size": 0, "work": LocalBudget(steps=2), "weight_decay": DECAY},
}
CLASSES = {"fedadmm": FedADMM, "iiadmm": IIADMM, "iceadmm": ICEADMM}
STEPS = {"fedadmm": {"lr": 0.9}, "iiadmm": {"zeta": 0.5}, "iceadmm": {"curvature": 2.5}}
BALANCE = {"residual_balancing": {"ratio": 2.0}}
CHOSEN = {"server_average": "participants"}

each_weights = pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
each_local = pytest.mark.parametrize("local", LOCAL.values(), ids=LOCAL)
each_init = pytest.mark.parametrize("init", ["global", "local"])
each_name = pytest.mark.parametrize("name", CLASSES)


def make(name, rho=0.4, **options):
    return CLASSES[name](rho=rho, **{"units": "weighted"} | STEPS[name] | options)


def full(steps):
    """Return options of this number of full-batch steps."""
    return {"batch_size": 0, "work": LocalBudget(steps=steps), "weight_decay": DECAY}


def close(tensor, array, atol=1e-12):
    expected = torch.as_tensor(np.asarray(array), dtype=torch.float64)
    torch.testing.assert_close(tensor.double(), expected, rtol=0, atol=atol)


# Rounds written out ----------------------------------------------------------------


def local_steps(name, clients, i, start, anchor, dual, rho, local):
    """Return client i's model and dual, on paper."""
    alpha, decay = clients.alpha[i], local.get("weight_decay", 0.0)
    batches = order(SIZES[i], local["work"], local["batch_size"])
    z = start if batches else anchor
    for rows in batches:
        g = alpha * clients.gradient(i, z, decay, rows)
        if name == "fedadmm":
            z = z - 0.9 * (g + dual + rho * (z - anchor))
        elif name == "iiadmm":
            z = (rho * anchor + 0.5 * z - g - dual) / (rho + 0.5)
        else:
            inner = alpha * 2.5
            z = (rho * anchor + inner * z - g - dual) / (rho + inner)
            dual = dual + rho * (z - anchor)
    return z, dual if name == "iceadmm" else dual + rho * (z - anchor)


@each_local
@each_weights
@each_init
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *product(CLASSES, [{}, BALANCE]),
        ("fedadmm", {"relaxation": 1.6, **BALANCE}),
        ("iiadmm", {"relaxation": 0.7}),
        ("fedadmm", CHOSEN),
        ("fedadmm", {"lr_server": 0.6, **CHOSEN}),
    ],
)
def test_rounds_are_what_the_papers_say(name, options, init, weights, local):
    """Where the penalty may change, it does; u is recomputed from all states."""
    clients = LeastSquares(weights)
    federation = Federation(make(name, **options, init=init, **local), clients)
    u = clients.start_u.numpy()
    z, dual = np.tile(u, (6, 1)), np.zeros((6, DIM_U))
    penalty, gamma = np.full((6, 1), 0.4), options.get("relaxation", 1.0)
    for k, chosen in enumerate(ROUNDS):
        rho = (0.4, 0.8, 0.3)[k % 3] if "residual_balancing" in options else 0.4
        federation.change_penalty(rho)
        federation.round(chosen)
        before = z + dual / rho
        penalty[chosen] = rho
        for i in chosen:
            start = u if init == "global" else z[i]
            anchor = gamma * u + (1 - gamma) * z[i]
            z[i], dual[i] = local_steps(
                name, clients, i, start, anchor, dual[i], rho, local
            )
        if "server_average" in options:
            change = (z + dual / rho - before)[chosen].mean(0)
            u = u + options.get("lr_server", 1.0) * change
        else:
            u = (penalty * z + dual).sum(0) / penalty.sum()
        close(federation.stack("shared"), z)
        close(federation.stack("dual"), dual)
        close(federation.server, [u])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@each_init
@each_name
def test_server_holds_the_mean_of_all_votes(name, init, dtype):
    """In single precision too: what is sent is the change of what is stored."""
    algorithm = make(name, init=init, **LOCAL["steps"])
    federation = Federation(algorithm, LeastSquares(UNEVEN, dtype=dtype))
    for _ in federation.rounds(40, 0.5):
        u, dual = federation.stack("shared"), federation.stack("dual")
        assert u.dtype == dual.dtype == dtype
        close(federation.consensus, (u.double() + dual.double() / 0.4).mean(0), 1e-13)


# Where they come to rest -----------------------------------------------------------


@cache
def where_fedavg_stalls(weights):
    """Return its shared model, after as many rounds as the other methods take."""
    fedavg = Federation(FedAvg(lr=0.5, **full(3)), LeastSquares(weights))
    fedavg.run(200)
    return fedavg.consensus.numpy()


@pytest.mark.parametrize("participation", [1.0, 0.5])
@each_weights
@each_init
@each_name
def test_reaches_the_minimiser_where_fedavg_stalls(name, init, weights, participation):
    """With few local steps, and a client that has no samples."""
    clients = LeastSquares(weights)
    goal = clients.minimiser(DECAY)
    federation = Federation(make(name, 0.2, init=init, **full(3)), clients)
    rounds = 100 if init == "global" else 180
    federation.run(round(rounds / participation), participation)
    close(federation.server, [goal], 1e-10)
    close(federation.stack("shared"), np.tile(goal, (6, 1)), 1e-10)
    duals = [-a * clients.gradient(i, goal, DECAY) for i, a in enumerate(weights)]
    close(federation.stack("dual"), duals, 1e-10)
    assert np.linalg.norm(where_fedavg_stalls(weights) - goal) > 0.01


@pytest.mark.parametrize("lr_server", [0.25, 0.7])
@each_weights
def test_a_mean_over_participants_rests_elsewhere(weights, lr_server):
    """At the minimiser of F + m rho/2 (|S|/(m eta) - 1) |u - u_0|^2."""
    clients, rho = LeastSquares(weights), 0.05
    algorithm = make("fedadmm", rho, lr_server=lr_server, **CHOSEN, **full(4))
    federation = Federation(algorithm, clients)
    federation.run(650, 0.5)
    pull = 6 * rho * (0.5 / lr_server - 1)
    start = clients.start_u.numpy()
    hessian = clients.weighted(lambda i: clients.hessian(i, DECAY))
    slope = clients.weighted(lambda i: -clients.gradient(i, np.zeros(DIM_U)))
    rest = np.linalg.solve(hessian + pull * np.eye(DIM_U), slope + pull * start)
    close(federation.consensus, rest, 1e-10)
    assert np.linalg.norm(rest - clients.minimiser(DECAY)) > 0.005


def test_nothing_moves_in_a_round_without_participants():
    algorithm = make("fedadmm", **CHOSEN, **full(4))
    federation = Federation(algorithm, LeastSquares(UNEVEN))
    federation.round([1, 4])
    before = federation.consensus.clone()
    federation.round([])
    assert torch.equal(federation.consensus, before)


@pytest.mark.parametrize("rho", [0.002, 20.0])
@each_name
def test_the_penalty_adapts_in_both_directions(name, rho):
    clients = LeastSquares(UNEVEN)
    balance = {"ratio": 3.0, "residuals": "absolute"}
    options = {"residual_balancing": balance} | full(8)
    if name == "fedadmm":
        options |= {"lr": 0.05, "relaxation": 1.3}
    federation = Federation(make(name, rho, **options), clients)
    for _ in federation.rounds(20, 0.5):
        federation.adapt()
        own = federation.stack("rho")
        votes = own * federation.stack("shared") + federation.stack("dual")
        close(federation.consensus, votes.sum(0) / own.sum())
    assert (federation.algorithm.rho > rho) == (rho < 1)
    assert (federation.algorithm.rho < rho) == (rho > 1)
    federation.algorithm = make(name, 0.2, **options | STEPS[name])
    federation.run(250, 0.5)
    close(federation.consensus, clients.minimiser(DECAY), 1e-10)


# Special cases ---------------------------------------------------------------------


def same_run(ours, other, clients, adapt=False):
    first, second = Federation(ours, clients), Federation(other, clients)
    for chosen in ROUNDS * 3:
        first.round(chosen)
        second.round(chosen)
        assert torch.equal(first.server, second.server)
        for name in ("shared", "dual"):
            assert torch.equal(first.stack(name), second.stack(name))
        if adapt:
            assert first.adapt() == second.adapt()


@each_local
@each_init
@pytest.mark.parametrize("options", [{}, {"relaxation": 1.6}, BALANCE])
def test_fedadmm_is_fedapms_u_phase_bit_for_bit(options, init, local):
    """If everybody has samples."""
    steps = {"lr_personal": 1.0, "lr_shared": 0.9, "u_init": init}
    works = {"personal_work": LocalBudget(steps=1), "shared_work": local["work"]}
    rest = {key: value for key, value in local.items() if key != "work"} | options
    steps["units"] = "weighted"
    other = FedAPM(rho=0.4, sigma=0.0, **steps, **works, **rest)
    ours = make("fedadmm", init=init, **local, **options)
    clients = LeastSquares(UNEVEN, sizes=(4, 1, 2, 3, 7, 2))
    same_run(ours, other, clients, adapt="residual_balancing" in options)


@each_local
@each_init
@pytest.mark.parametrize("relaxation", [1.0, 1.6])
def test_iiadmm_is_fedadmm_of_its_step_size(relaxation, init, local):
    options = {"relaxation": relaxation, "init": init} | local
    other = make("fedadmm", lr=1 / (0.4 + 0.5), **options)
    same_run(make("iiadmm", **options), other, LeastSquares(UNEVEN))


@each_init
def test_iceadmm_with_one_local_step_is_iiadmm(init):
    options = {"init": init} | full(1)
    other = make("iiadmm", zeta=1 / 6 * 2.5, **options)
    same_run(make("iceadmm", **options), other, LeastSquares(WEIGHTS["uniform"]))


@each_weights
def test_iceadmm_with_many_local_steps_is_gradient_descent(weights):
    clients = LeastSquares(weights)
    federation = Federation(make("iceadmm", **full(150)), clients)
    w = clients.start_u.numpy()
    for _ in range(5):
        federation.round(range(6))
        close(federation.stack("shared"), np.tile(w, (6, 1)), 1e-11)
        slope = clients.weighted(lambda i, w=w: clients.gradient(i, w, DECAY))
        w = w - slope / (6 * 0.4)
        close(federation.consensus, w, 1e-10)


# What stays, and what is refused ---------------------------------------------------


@each_name
@each_init
def test_who_sits_out_keeps_every_bit(name, init):
    algorithm = make(name, init=init, **BALANCE, **LOCAL["steps"])
    federation = Federation(algorithm, LeastSquares(UNEVEN))
    for chosen in ROUNDS:
        before = snapshot(federation)
        federation.round(chosen)
        for i in set(range(6)) - set(chosen):
            for key, value in federation.clients[i].items():
                assert torch.equal(value, before[i][key])
        assert all(sent.shape == (1, DIM_U) for sent in federation.increment.values())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": 0}, "lr: "),
        ({"lr_server": 1}, "lr_server has no effect with server_average 'all'"),
        (
            {"residual_balancing": {}, **CHOSEN},
            "residual_balancing needs server_average 'all'",
        ),
        (
            {"rho_schedule": {"growth": 1.1}, **CHOSEN},
            "rho_schedule needs server_average 'all'",
        ),
        ({"rho_schedule": {"groth": 1.1}}, "did you mean 'growth'"),
        ({"rho_schedule": {}}, "rho_schedule.growth: missing"),
        ({"init": "zero"}, "init: "),
        ({"name": "iiadmm"}, "lr: unknown key"),
        ({"name": "iiadmm", "zeta": -1}, "zeta: input should be greater"),
        ({"name": "iceadmm", "curvature": -1}, "curvature: input should be greater"),
        ({"name": "iceadmm", "curvature": 1, **CHOSEN}, "server_average: unknown key"),
    ],
)
def test_refused_options(options, words):
    local = {"name": "fedadmm", "rho": 1, "lr": 1, "batch_size": 2}
    local["work"] = {"steps": 1}
    tree = {"data": "somewhere", "rounds": 1, "model": "mlp"}
    with pytest.raises(ConfigError) as caught:
        validate(tree | {"algorithm": local | options}, "test")
    assert words in str(caught.value)


def test_only_iceadmm_continues_from_its_own_model_by_default():
    starts = {name: make(name, **full(1)).init for name in CLASSES}
    assert starts == {"fedadmm": "global", "iiadmm": "global", "iceadmm": "local"}


@each_name
def test_a_tolerance_is_refused_and_iceadmms_relaxation(name):
    work = LocalBudget(xi=0.1, decay=0.5, max_epochs=2)
    with pytest.raises(ValueError, match="only fedapm"):
        make(name, batch_size=0, work=work)
    with pytest.raises(TypeError, match="relaxation"):
        make("iceadmm", relaxation=1.6, **full(1))
