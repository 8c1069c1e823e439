"""Local-only training: every client fits its own model and nothing is ever sent.

The baseline that any federated method has to beat. It trains as FedSim does, without a
shared block, so its budget per participation is the same `work`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import (
    BatchSize,
    ClientState,
    LocalProblem,
    NotNegative,
    Positive,
    Round,
    Sharing,
    Work,
    algorithms,
    as_work,
    descend,
    forbid_criterion,
)


@algorithms.register("local")
@dataclass(frozen=True, kw_only=True)
class LocalOnly:
    """SGD on the client's own model, from the common initial one."""

    lr: Positive
    """Step size."""

    batch_size: BatchSize
    """Samples in a mini-batch; 0 is the full batch."""

    work: Work
    """Length of a participant's work."""

    weight_decay: NotNegative = 0.0
    """L2 decay of all parameters."""

    sharing: ClassVar[Sharing] = "none"
    rows: ClassVar[int] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "work", as_work(self.work))
        forbid_criterion(work=self.work)

    def new_client(self, shared: Tensor, personal: Tensor) -> ClientState:
        """Return the client's own copy of the model; `shared` is empty."""
        return {"shared": shared.clone(), "personal": personal.clone()}

    def client_step(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: LocalProblem,
        weight: float,
    ) -> Tensor:
        """Train; the increment is empty."""
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
        return torch.zeros(self.rows, len(problem.shared), dtype=torch.float64)

    def server_step(self, server: Tensor, total: Tensor, round_: Round) -> None:
        """Do nothing: there is nothing to agree on."""
