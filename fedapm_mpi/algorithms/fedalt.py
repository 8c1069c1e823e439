r"""FedAlt: alternating updates of a personal and a shared block.

A participant takes SGD steps on its personal block with the broadcast u fixed, then on
the shared block with the new personal block fixed; the server averages the shared
blocks of the **participants**, by client weight, and may make more of that mean than
its next u (`server_optimizer`).

The theory is for SGD steps on both blocks; with an adaptive `optimizer` the mean of the
shared blocks may rest at another point (see FedAvg).

Reference: Pillutla et al., "Federated learning with partial model personalization",
ICML 2022, algorithm 2.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

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


class Phase(NamedTuple):
    """A local phase on one block."""

    budget: LocalBudget
    lr: float


@dataclass(frozen=True, kw_only=True)
class AlternatingTraining(FederatedAveraging):
    """A phase on the personal block, then one on the shared block, then a mean."""

    sharing: ClassVar[Sharing] = "split"

    @abstractmethod
    def phases(self) -> tuple[Phase, Phase]:
        """Return the phase on the personal block, and that on the shared block."""

    def local_budgets(self) -> list[LocalBudget]:
        """Return the lengths of both phases, in their order."""
        return [phase.budget for phase in self.phases()]

    def trained_blocks(self) -> list[Block]:
        """Return one after the other."""
        return ["personal", "shared"]

    def client_step(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> Tensor:
        (u_server,) = broadcast
        personal, shared = self.phases()
        problem.shared.copy_(u_server)
        problem.personal.copy_(client["personal"])
        self.minimize(problem, "personal", personal.budget, personal.lr)
        self.minimize(problem, "shared", shared.budget, shared.lr)
        client["personal"].copy_(problem.personal)
        return self.make_update(problem.shared, u_server, client, weight)


@algorithms.register("fedalt")
@dataclass(frozen=True, kw_only=True)
class FedAlt(AlternatingTraining):
    """Personal phase, then shared phase, then a mean over participants."""

    lr_personal: StepSize = DEFAULT_LR
    """Step size of the personal phase."""

    lr_shared: StepSize = DEFAULT_LR
    """Step size of the shared phase."""

    personal_work: LocalBudget = WORK
    """Length of the personal phase."""

    shared_work: LocalBudget = WORK
    """Length of the shared phase."""

    def phases(self) -> tuple[Phase, Phase]:
        return (
            Phase(self.personal_work, self.lr_personal),
            Phase(self.shared_work, self.lr_shared),
        )
