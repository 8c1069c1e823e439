"""FedBABU against its paper: a head that stays, and fine-tuning."""

import numpy as np
import torch

from fedapm_mpi.algorithms import algorithms
from fedapm_mpi.algorithms.base import LocalBudget
from tests.support.oracles.in_memory_federation import UNEVEN, Federation
from tests.support.oracles.quadratic import DIM_U, KAPPA, Quadratic

HEAD = {"lr_head": 0.3, "head_work": LocalBudget(steps=4)}
BODY = {"lr_body": 0.1, "body_work": LocalBudget(epochs=2)}
JOINT = {"lr": 0.2, "work": LocalBudget(steps=3)}
TUNING = {"lr_fine_tune": 0.3, "fine_tune_work": LocalBudget(steps=4)}
OPTIONS = {
    "fedper": JOINT,
    "fedrep": HEAD | BODY,
    "fedbabu": JOINT | TUNING,
    "fedavg-ft": JOINT | TUNING,
}


def make(name, **changes):
    return algorithms.get(name)(batch_size=0, **OPTIONS.get(name, {}) | changes)


def test_fedbabu_comes_to_rest_at_the_best_body_for_the_initial_head():
    quadratic = Quadratic(UNEVEN)
    federation = Federation(
        make("fedbabu", lr=0.6, work=LocalBudget(steps=1)), quadratic
    )
    federation.run(1_000)
    missing = quadratic.c - quadratic.a @ quadratic.start_v
    matrix = torch.einsum("i,irj,irk->jk", quadratic.weights, quadratic.b, quadratic.b)
    target = torch.einsum("i,irj,ir->j", quadratic.weights, quadratic.b, missing)
    best = np.linalg.solve(matrix.numpy() + KAPPA * np.eye(DIM_U), target.numpy())
    np.testing.assert_allclose(federation.consensus, best, rtol=0, atol=1e-10)
