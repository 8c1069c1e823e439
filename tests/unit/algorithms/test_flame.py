"""FLAME in a special case; its formulas are in `test_ditto`."""

import torch
import yaml

from fedapm_mpi.algorithms.base import LocalBudget
from fedapm_mpi.algorithms.fedapm import FedAPM
from fedapm_mpi.algorithms.flame import Flame
from tests.support.oracles.in_memory_federation import Federation
from tests.support.oracles.whole_models import Losses

UNIFORM = (1 / 6,) * 6
SCHEDULE = [[0, 3], [1, 3, 4], [5], [0, 2, 3, 5]]
COMMON = {"lam": 0.8, "batch_size": 0, "weight_decay": 0.1}
FLAME = COMMON | yaml.safe_load("""
{units: weighted, rho: 0.2, lr_personal: 0.3, personal_work: {epochs: 2}}
""")


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def test_flame_is_fedapm_for_the_lifted_loss():
    """A gradient step of length 1 / (alpha lam + rho) solves FedAPM's u problem."""
    works = {"personal_work": LocalBudget(steps=3), "shared_work": LocalBudget(steps=1)}
    steps = {"lr_personal": 0.3, "lr_shared": 1 / (0.8 / 6 + 0.2), "batch_size": 0}
    variant = {"v_step_at": "local", "alpha_in_v_step": False, "units": "weighted"}
    lifted = FedAPM(rho=0.2, sigma=0.0, **steps, **works, **variant)
    other = Federation(lifted, Losses(UNIFORM, lifted=0.8))
    changes = {"weight_decay": 0.0, "personal_work": LocalBudget(steps=3)}
    ours = Federation(Flame(**FLAME | changes), Losses(UNIFORM))
    for chosen in 5 * SCHEDULE:
        ours.round(chosen)
        other.round(chosen)
        close(ours.server, other.server)
        for mine, theirs in zip(ours.clients, other.clients, strict=True):
            close(mine["own"], theirs["personal"])
            close(mine["shared"], theirs["shared"])
            close(mine["dual"], theirs["dual"])
