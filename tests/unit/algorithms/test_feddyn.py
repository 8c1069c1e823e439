"""FedDyn against its paper's formulas, written out in numpy."""

import numpy as np
import pytest

from fedapm_mpi.algorithms.base import LocalBudget
from fedapm_mpi.algorithms.fedapm import FedAPM
from fedapm_mpi.algorithms.feddyn import FedDyn
from tests.support.oracles.drift import (
    DECAY,
    ROUNDS,
    WEIGHTS,
    close,
    each_case,
    each_local,
    each_weights,
    full,
    mean,
)
from tests.support.oracles.in_memory_federation import UNEVEN, Federation
from tests.support.oracles.least_squares import EMPTY, SIZES, LeastSquares
from tests.support.oracles.quadratic import DIM_U


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


def test_feddyn_with_everyone_is_fedapm_without_a_personal_block():
    """For weights 1/m: of penalty a/m and duals -g_i/m, as FedAPM's loss is f_i/m."""
    ours, clients = FedDyn(penalty=0.6, **full(4)), LeastSquares(WEIGHTS["uniform"])
    other = FedAPM(
        units="weighted",
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
