"""FedProx against its paper's formulas, written out in numpy."""

import numpy as np
import torch

from fedapm_mpi.algorithms.fedavg import FedAvg
from fedapm_mpi.algorithms.fedprox import FedProx
from tests.support.oracles.drift import (
    DECAY,
    ROUNDS,
    close,
    each_local,
    each_weights,
    full,
    mean,
)
from tests.support.oracles.in_memory_federation import UNEVEN, Federation
from tests.support.oracles.least_squares import LeastSquares
from tests.support.oracles.quadratic import DIM_U


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
