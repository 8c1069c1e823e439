"""Ditto, pFedMe and FLAME: their formulas, where they come to rest, special cases.

Every client's loss is a quadratic of the whole model, so that its Moreau envelope and
all fixed points solve linear systems.
"""

from collections import Counter
from functools import partial

import pytest
import torch
import yaml

from fedapm_mpi.algorithms.base import LocalBudget
from fedapm_mpi.algorithms.ditto import Ditto
from fedapm_mpi.algorithms.fedavg import FedAvg
from fedapm_mpi.algorithms.flame import Flame
from fedapm_mpi.algorithms.local import LocalOnly
from fedapm_mpi.algorithms.pfedme import PFedMe
from fedapm_mpi.config.validation import validate_options
from tests.support.oracles.in_memory_federation import UNEVEN, Federation, snapshot
from tests.support.oracles.quadratic import DIM_U
from tests.support.oracles.whole_models import Losses, Problem

UNIFORM = (1 / 6,) * 6
WEIGHTS = {"uniform": UNIFORM, "uneven": UNEVEN}
SCHEDULE = [[0, 3], [1, 3, 4], [5], [0, 2, 3, 5]]
COMMON = {"lam": 0.8, "batch_size": 0, "weight_decay": 0.1}
DITTO = COMMON | yaml.safe_load("""
{lr_global: 0.3, lr_personal: 0.2, global_work: {epochs: 2}, personal_work: {steps: 3}}
""")
PFEDME = COMMON | yaml.safe_load("""
{lr_personal: 0.25, inner_steps: 3, eta: 0.7, beta: 1.4, work: {epochs: 2}}
""")
FLAME = COMMON | yaml.safe_load("""
{units: weighted, rho: 0.2, lr_personal: 0.3, personal_work: {epochs: 2}}
""")


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def spelt_ditto(w, x, theta, dual, alpha, slope):
    x = w
    for k in range(4):
        x = x - 0.3 * (slope("joint", k, x) + 0.1 * x)
    for k in range(3):
        pull = 0.8 * (theta - w)
        theta = theta - 0.2 * (slope("shared", k, theta) + 0.1 * theta + pull)
    return x, theta, dual


def spelt_pfedme(w, x, theta, dual, alpha, slope):
    x = theta = w
    for k in range(4):
        for _ in range(3):
            pull = 0.8 * (theta - x)
            theta = theta - 0.25 * (slope("joint", k, theta) + 0.1 * theta + pull)
        x = x - 0.7 * 0.8 * (x - theta)
    return x, theta, dual


def spelt_flame(w, x, theta, dual, alpha, slope):
    for k in range(4):
        pull = 0.8 * (theta - x)
        theta = theta - 0.3 * (slope("joint", k, theta) + 0.1 * theta + pull)
    x = (alpha * 0.8 * theta + 0.2 * w - dual) / (alpha * 0.8 + 0.2)
    return x, theta, dual + 0.2 * (x - w)


def relaxed(w, mean, vote):
    return (1 - 1.4) * w + 1.4 * mean


SPELT = {
    "ditto": (Ditto(**DITTO), spelt_ditto, lambda w, mean, vote: mean),
    "pfedme": (PFedMe(**PFEDME), spelt_pfedme, relaxed),
    "flame": (Flame(**FLAME), spelt_flame, lambda w, mean, vote: vote),
}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("name", SPELT)
def test_rounds_follow_the_formulas(name, weights):
    algorithm, client_part, server_part = SPELT[name]
    losses = Losses(weights, noise=0.5)
    federation = Federation(algorithm, losses)
    alpha, w, seen = losses.weights, losses.start_u, Counter()
    x, own, dual = w.repeat(6, 1), w.repeat(6, 1), torch.zeros(6, DIM_U).double()
    for chosen in SCHEDULE:
        federation.round(chosen)
        for i in chosen:
            slope = partial(federation.problems[i].slope, seen[i])
            one = client_part(w, x[i], own[i], dual[i], alpha[i], slope)
            x[i], own[i], dual[i] = one
            seen[i] += 1
        mean = alpha[chosen] @ x[chosen] / alpha[chosen].sum()
        w = server_part(w, mean, (x + dual / 0.2).mean(0))
        close(federation.consensus, w)
        for key, expected in (("shared", x), ("own", own), ("dual", dual)):
            if key in federation.clients[0]:
                close(federation.stack(key), expected)


@pytest.mark.parametrize("name", SPELT)
def test_a_client_is_evaluated_with_its_own_model(name):
    federation = Federation(SPELT[name][0], Losses())
    federation.round([1])
    problem, client = federation.problems[1], federation.clients[1]
    before, sent = snapshot(federation)[1], federation.server.clone()
    problem.forget()
    federation.algorithm.load_personal_model(sent, client, problem, 0.1)
    assert torch.equal(problem.shared, client["own"])
    assert not torch.equal(problem.shared, client["shared"])
    assert torch.equal(sent, federation.server)
    assert all(torch.equal(client[key], before[key]) for key in client)


SOLVING = {
    "inner_steps": 35,
    "lr_personal": 0.55,
    "eta": 2.0,
    "work": LocalBudget(steps=1),
}
FEW = {"personal_work": LocalBudget(steps=2)}
RESTS = {
    "ditto": (Ditto(**DITTO | {"global_work": LocalBudget(steps=1)}), 200, 1.0),
    "pfedme, half": (PFedMe(**PFEDME | SOLVING | {"beta": 0.5}), 100, 1.0),
    "pfedme, more": (PFedMe(**PFEDME | SOLVING | {"beta": 1.5}), 100, 1.0),
    "flame": (Flame(**FLAME | FEW), 500, 1.0),
    "flame, three of six": (Flame(**FLAME | FEW), 1000, 0.5),
}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("name", RESTS)
def test_comes_to_rest_where_theory_says(name, weights):
    """FLAME does so however few its steps on theta are, and for any participants."""
    algorithm, rounds, participation = RESTS[name]
    losses = Losses(weights)
    federation = Federation(algorithm, losses)
    federation.run(rounds, participation)
    w = losses.minimiser() if name == "ditto" else losses.envelope_minimiser()
    theta = losses.prox(w)
    close(federation.consensus, w, 1e-11)
    close(federation.stack("own"), theta, 1e-11)
    if "dual" in federation.clients[0]:
        expected = losses.weights[:, None] * 0.8 * (theta - w)
        close(federation.stack("shared"), w.expand(6, -1), 1e-11)
        close(federation.stack("dual"), expected, 1e-11)


@pytest.mark.parametrize(
    "server",
    [{}, {"server_average": "all"}, {"server_optimizer": {"name": "adam", "lr": 0.1}}],
    ids=str,
)
def test_ditto_has_the_global_model_of_fedavg_bit_for_bit(server):
    losses = Losses(noise=0.5)
    ours = Federation(Ditto(**DITTO, **server), losses)
    same = {
        "lr": 0.3,
        "batch_size": 0,
        "work": LocalBudget(epochs=2),
        "weight_decay": 0.1,
    }
    other = Federation(FedAvg(**same, **server), losses)
    for chosen in SCHEDULE:
        ours.round(chosen)
        other.round(chosen)
        assert torch.equal(ours.server, other.server)
        assert torch.equal(ours.stack("shared"), other.stack("shared"))


def test_ditto_without_pull_is_local_training_bit_for_bit():
    losses = Losses()
    ours = Federation(Ditto(**DITTO | {"lam": 0.0}), losses)
    local = LocalOnly(lr=0.2, batch_size=0, work=LocalBudget(steps=3), weight_decay=0.1)
    nothing, start = losses.start_u[:0], losses.start_u
    problems = [Problem(p.hessian, p.b, size_shared=0) for p in ours.problems]
    states = [local.new_client(nothing, start) for _ in problems]
    for chosen in SCHEDULE:
        ours.round(chosen)
        for i in chosen:
            problems[i].forget()
            local.client_step(nothing[None], states[i], problems[i], 0.1)
        for client, state in zip(ours.clients, states, strict=True):
            assert torch.equal(client["own"], state["personal"])


@pytest.mark.parametrize("name", SPELT)
def test_new_clients_share_no_memory(name):
    start = Losses().start_u.clone()
    state = SPELT[name][0].new_client(start, start[:0])
    for value in state.values():
        value.add_(1)
    assert torch.equal(start, Losses().start_u)
    assert torch.equal(state["shared"], start + 1)
    assert torch.equal(state["own"], start + 1)


@pytest.mark.parametrize("name", SPELT)
def test_participants_without_weight_leave_the_server_as_it_is(name):
    """Such as clients without samples, where samples are the weights."""
    losses = Losses((0.0, *UNEVEN))
    federation = Federation(SPELT[name][0], losses)
    federation.round([0])
    assert torch.equal(federation.consensus, losses.start_u)


XI = {"xi": 0.5, "decay": 0.5, "max_epochs": 3}
ADAM = {"name": "adam"}
REFUSED = {
    Ditto: (DITTO, {"lam": -0.1, "global_work": XI, "personal_work": XI}),
    PFedMe: (PFEDME, {"lam": 0, "inner_steps": 0, "eta": 0, "beta": 0, "work": XI}),
    Flame: (FLAME, {"lam": 0, "rho": 0, "personal_work": XI, "server_optimizer": ADAM}),
}


@pytest.mark.parametrize("factory", REFUSED)
def test_options_that_make_no_sense_are_refused(factory):
    options, bad = REFUSED[factory]
    assert not validate_options("algorithm", factory, options, 0)[1]
    for key, value in bad.items():
        _, (error,) = validate_options("algorithm", factory, options | {key: value}, 0)
        assert key in error
