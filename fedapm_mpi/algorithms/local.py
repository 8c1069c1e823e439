"""Local-only training: every client fits its own model and nothing is ever sent.

The baseline that any federated method has to beat. It trains as FedSim does, without a
shared block, so its budget per participation is the same `work`, by any optimizer.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedapm_mpi.algorithms._local_training import LocalTraining
from fedapm_mpi.algorithms.base import (
    ClientState,
    LocalBudget,
    Objective,
    RoundInfo,
    Sharing,
    algorithms,
)
from fedapm_mpi.optim.default_solver import DEFAULT_LR, WORK, StepSize


@algorithms.register("local")
@dataclass(frozen=True, kw_only=True)
class LocalOnly(LocalTraining):
    """SGD on the client's own model, from the common initial one."""

    lr: StepSize = DEFAULT_LR
    """Step size."""

    work: LocalBudget = WORK
    """Length of a participant's work."""

    sharing: ClassVar[Sharing] = "none"

    def local_budgets(self) -> list[LocalBudget]:
        """Return the one phase."""
        return [self.work]

    def new_client(self, shared: Tensor, personal: Tensor) -> ClientState:
        """Return the client's own copy of the model; `shared` is empty."""
        return {"shared": shared.clone(), "personal": personal.clone()}

    def client_step(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> Tensor:
        """Train; the increment is empty."""
        problem.personal.copy_(client["personal"])
        self.minimize(problem, "both", self.work, self.lr)
        client["personal"].copy_(problem.personal)
        return torch.zeros(self.rows, len(problem.shared), dtype=torch.float64)

    def server_step(self, server: Tensor, total: Tensor, round_: RoundInfo) -> None:
        """Do nothing: there is nothing to agree on."""
