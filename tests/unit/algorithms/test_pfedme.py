"""pFedMe in a special case; its formulas are in `test_ditto`."""

import pytest
import torch
import yaml

from fedapm_mpi.algorithms.base import LocalBudget
from fedapm_mpi.algorithms.fedavg import FedAvg
from fedapm_mpi.algorithms.pfedme import PFedMe
from tests.support.oracles.in_memory_federation import Federation
from tests.support.oracles.whole_models import Losses

SCHEDULE = [[0, 3], [1, 3, 4], [5], [0, 2, 3, 5]]
COMMON = {"lam": 0.8, "batch_size": 0, "weight_decay": 0.1}
PFEDME = COMMON | yaml.safe_load("""
{lr_personal: 0.25, inner_steps: 3, eta: 0.7, beta: 1.4, work: {epochs: 2}}
""")


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("beta", [1.0, 0.5, 1.5])
def test_pfedme_with_one_inner_step_to_its_end_is_fedavg(beta):
    """Where w follows theta all the way, the inner problem's pull is always nought."""
    losses = Losses(noise=0.5)
    one = {"inner_steps": 1, "eta": 1.25, "beta": beta}
    ours = Federation(PFedMe(**PFEDME | one), losses)
    same = {
        "lr": 0.25,
        "batch_size": 0,
        "work": LocalBudget(epochs=2),
        "weight_decay": 0.1,
    }
    other = Federation(FedAvg(**same, server_optimizer={"lr": beta}), losses)
    for chosen in SCHEDULE:
        ours.round(chosen)
        other.round(chosen)
        close(ours.consensus, other.consensus, 1e-14)
        close(ours.stack("own"), other.stack("shared"), 1e-14)
