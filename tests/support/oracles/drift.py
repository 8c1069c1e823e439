"""Local work with a correction of drift, written out in NumPy."""

from itertools import product

import numpy as np
import pytest
import torch

from fedapm_mpi.algorithms.base import LocalBudget
from tests.support.oracles.in_memory_federation import UNEVEN
from tests.support.oracles.least_squares import EMPTY

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
