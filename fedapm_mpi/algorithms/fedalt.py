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

from ._server import ServerMean
from .base import (
    BatchSize,
    ClientState,
    LocalProblem,
    NotNegative,
    Positive,
    Sharing,
    Work,
    algorithms,
    as_work,
    descend,
    forbid_criterion,
)


@algorithms.register("fedalt")
@dataclass(frozen=True, kw_only=True)
class FedAlt(ServerMean):
    """Personal phase, then shared phase, then a mean over participants."""

    lr_personal: Positive
    """Step size of the personal phase."""

    lr_shared: Positive
    """Step size of the shared phase."""

    batch_size: BatchSize
    """Samples in a mini-batch; 0 is the full batch."""

    personal_work: Work
    """Length of the personal phase."""

    shared_work: Work
    """Length of the shared phase."""

    weight_decay: NotNegative = 0.0
    """L2 decay of both blocks."""

    sharing: ClassVar[Sharing] = "split"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "personal_work", as_work(self.personal_work))
        object.__setattr__(self, "shared_work", as_work(self.shared_work))
        forbid_criterion(personal_work=self.personal_work, shared_work=self.shared_work)

    def client_step(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: LocalProblem,
        weight: float,
    ) -> Tensor:
        (u_server,) = broadcast
        problem.shared.copy_(u_server)
        problem.personal.copy_(client["personal"])
        descend(
            problem,
            "personal",
            self.personal_work,
            batch_size=self.batch_size,
            lr=self.lr_personal,
            weight_decay=self.weight_decay,
        )
        descend(
            problem,
            "shared",
            self.shared_work,
            batch_size=self.batch_size,
            lr=self.lr_shared,
            weight_decay=self.weight_decay,
        )
        client["personal"].copy_(problem.personal)
        return self.send(problem.shared, u_server, client, weight)
