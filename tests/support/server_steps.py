"""Steps of a server, by itself."""

import numpy as np
import pytest
import torch

from fedapm_mpi.algorithms.base import LocalBudget
from fedapm_mpi.algorithms.fedalt import FedAlt
from fedapm_mpi.algorithms.fedsim import FedSim
from tests.support.oracles.in_memory_federation import UNEVEN, Federation
from tests.support.oracles.quadratic import Quadratic

ROUNDS = ([0, 2, 3], [4], [0, 1, 2, 3, 4, 5], [1], [5, 1], [2, 3, 4, 5])


WEIGHTS = {"uniform": (1 / 6,) * 6, "uneven": UNEVEN}


EPOCHS = {"epochs": 2}


FEDALT = {"lr_personal": 0.2, "lr_shared": 0.2, "batch_size": 0}


WORK = {"personal_work": LocalBudget(**EPOCHS), "shared_work": LocalBudget(**EPOCHS)}


MAKERS = {
    "fedalt": lambda **options: FedAlt(**FEDALT, **WORK, **options),
    "fedsim": lambda **options: FedSim(
        lr=0.2, batch_size=0, work=LocalBudget(**EPOCHS), **options
    ),
}


each_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


each_weights = pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)


def close(tensor, array):
    expected = torch.as_tensor(np.asarray(array), dtype=torch.float64)
    torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-13)


def rounds(make, weights, **options):
    """Run `ROUNDS`; yield the federation and the mean change of each.

    The change is that of the participants' models from the server's before the round.
    """
    federation = Federation(make(**options), Quadratic(weights))
    for chosen in ROUNDS:
        u = federation.consensus.numpy().copy()
        federation.round(chosen)
        alpha = np.array(weights)[chosen]
        ends = federation.stack("shared").numpy()[chosen]
        yield federation, alpha @ (ends - u) / alpha.sum()
