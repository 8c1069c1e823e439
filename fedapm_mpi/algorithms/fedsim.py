r"""FedSim: simultaneous updates of a personal and a shared block.

A participant takes SGD steps on both blocks at once, their gradients taken at the same
point on the same batch; the server averages the shared blocks of the **participants**,
by client weight, and may make more of that mean than its next u (`server_optimizer`).

The theory is for SGD steps on both blocks; with an adaptive `optimizer` the mean of the
shared blocks may rest at another point (see FedAvg).

Reference: Pillutla et al., "Federated learning with partial model personalization",
ICML 2022, algorithm 3.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedapm_mpi.algorithms._averaging import FederatedAveraging
from fedapm_mpi.algorithms.base import (
    Block,
    ClientState,
    LocalBudget,
    Objective,
    Sharing,
    algorithms,
)
from fedapm_mpi.optim.default_solver import DEFAULT_LR, WORK, StepSize


@algorithms.register("fedsim")
@dataclass(frozen=True, kw_only=True)
class FedSim(FederatedAveraging):
    """One joint phase over both blocks, then a mean over participants."""

    lr: StepSize = DEFAULT_LR
    """Step size of both blocks."""

    work: LocalBudget = WORK
    """Length of the joint phase."""

    sharing: ClassVar[Sharing] = "split"

    def local_budgets(self) -> list[LocalBudget]:
        """Return the one phase."""
        return [self.work]

    def trained_blocks(self) -> list[Block]:
        """Return both, together."""
        return ["both"]

    def client_step(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> Tensor:
        (u_server,) = broadcast
        problem.shared.copy_(u_server)
        problem.personal.copy_(client["personal"])
        self.minimize(problem, "both", self.work, self.lr)
        client["personal"].copy_(problem.personal)
        return self.make_update(problem.shared, u_server, client, weight)
