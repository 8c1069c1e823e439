"""The length of a local phase."""

import subprocess
import sys

import pytest

from fedapm_mpi.algorithms.fedapm import FedAPM
from fedapm_mpi.optim import local
from fedapm_mpi.optim.budget import LocalBudget, budgets, forbid_tolerance

FEDAPM = {
    "rho": 0.1, "sigma": 0.1, "lr_personal": 0.1, "lr_shared": 0.1, "batch_size": 0,
}  # fmt: skip


def test_budgets_and_tolerances():
    work = {
        "personal_work": LocalBudget(epochs=2),
        "shared_work": LocalBudget(xi=1e-9, decay=0.9, max_epochs=3),
    }
    apm = FedAPM(**FEDAPM | work)
    assert budgets(apm) == work
    with pytest.raises(ValueError, match="shared_work takes epochs or steps"):
        forbid_tolerance(**budgets(apm))
    for wrong, message in (
        ({}, "exactly one"),
        ({"epochs": 1, "steps": 1}, "exactly one"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"xi": 0.1}, "belong together"),
        ({"epochs": 1, "decay": 0.5, "max_epochs": 2}, "belong together"),
        ({"xi": 0.1, "decay": 1.0, "max_epochs": 2}, r"in \(0, 1\)"),
        ({"xi": 0.0, "decay": 0.5, "max_epochs": 2}, "xi must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            LocalBudget(**wrong)


def test_it_needs_no_torch():
    """A configuration is read by processes that do not load it."""
    assert local.LocalBudget is LocalBudget
    program = "import sys, fedapm_mpi.config.schema; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
