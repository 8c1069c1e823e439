"""FedProx against its paper's formulas, written out in numpy."""

import numpy as np
import pytest
import torch

from fedapm_mpi.algorithms.base import LocalBudget
from fedapm_mpi.algorithms.fedavg import FedAvg
from fedapm_mpi.algorithms.fedprox import FedProx
from tests.support.oracles.in_memory_federation import UNEVEN, Federation
from tests.support.oracles.least_squares import EMPTY, LeastSquares
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


def full(steps, lr=0.5):
    """Return options of this number of full-batch steps."""
    work = LocalBudget(steps=steps)
    return {"lr": lr, "batch_size": 0, "work": work, "weight_decay": DECAY}


def close(tensor, array, atol=1e-12):
    expected = torch.as_tensor(np.asarray(array), dtype=torch.float64)
    torch.testing.assert_close(tensor.double(), expected, rtol=0, atol=atol)


def mean(clients, chosen, vectors):
    """Return the participants' weighted mean."""
    alpha = clients.alpha
    return sum(alpha[i] * vectors[i] for i in chosen) / sum(alpha[i] for i in chosen)


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
