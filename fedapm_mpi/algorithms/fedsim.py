r"""FedSim: simultaneous updates of a personal and a shared block.

A participant takes SGD steps on both blocks at once, their gradients taken at the same
point on the same batch; the server averages the shared blocks of the **participants**,
by client weight, and may make more of that mean than its next u (`server_optimizer`).

Reference: Pillutla et al., "Federated learning with partial model personalization",
ICML 2022, algorithm 3.
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


@algorithms.register("fedsim")
@dataclass(frozen=True, kw_only=True)
class FedSim(ServerMean):
    """One joint phase over both blocks, then a mean over participants."""

    lr: Positive
    """Step size of both blocks."""

    batch_size: BatchSize
    """Samples in a mini-batch; 0 is the full batch."""

    work: Work
    """Length of the joint phase."""

    weight_decay: NotNegative = 0.0
    """L2 decay of both blocks."""

    sharing: ClassVar[Sharing] = "split"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "work", as_work(self.work))
        forbid_criterion(work=self.work)

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
            "both",
            self.work,
            batch_size=self.batch_size,
            lr=self.lr,
            weight_decay=self.weight_decay,
        )
        client["personal"].copy_(problem.personal)
        return self.send(problem.shared, u_server, client, weight)
