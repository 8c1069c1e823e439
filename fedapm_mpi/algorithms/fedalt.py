r"""FedAlt: alternating updates of a personal and a shared block.

A participant takes SGD steps on its personal block with the broadcast u fixed, then on
the shared block with the new personal block fixed; the server averages the shared
blocks of the **participants**, by client weight, and may make more of that mean than
its next u (`server_optimizer`).

Reference: Pillutla et al., "Federated learning with partial model personalization",
ICML 2022, algorithm 2.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedapm_mpi.algorithms._averaging import FederatedAveraging
from fedapm_mpi.algorithms.base import (
    ClientState,
    LocalBudget,
    Objective,
    PositiveFloat,
    Sharing,
    algorithms,
)


@algorithms.register("fedalt")
@dataclass(frozen=True, kw_only=True)
class FedAlt(FederatedAveraging):
    """Personal phase, then shared phase, then a mean over participants."""

    lr_personal: PositiveFloat
    """Step size of the personal phase."""

    lr_shared: PositiveFloat
    """Step size of the shared phase."""

    personal_work: LocalBudget
    """Length of the personal phase."""

    shared_work: LocalBudget
    """Length of the shared phase."""

    sharing: ClassVar[Sharing] = "split"

    def local_budgets(self) -> list[LocalBudget]:
        """Return both phases, in their order."""
        return [self.personal_work, self.shared_work]

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
        self.minimize(problem, "personal", self.personal_work, self.lr_personal)
        self.minimize(problem, "shared", self.shared_work, self.lr_shared)
        client["personal"].copy_(problem.personal)
        return self.make_update(problem.shared, u_server, client, weight)
