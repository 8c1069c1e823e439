r"""FedBABU: a shared body trained under a random head, fine-tuned before it is used.

The head stays :math:`v^0`, as it was drawn, all through the federated training: it is
neither trained nor sent. A participant takes SGD steps on the body alone,

.. math:: u_i \leftarrow u_i - \eta \nabla_u f_i(v^0, u_i),
          \quad u_i = u \text{ at first},

and the server averages the u_i of the participants, by client weight (n_i/n in the
paper: set ``client_weights: samples``). A client's own model is fine-tuned from
:math:`(u, v^0)` on its training samples each time that it is evaluated; the training
knows nothing of it.

Fine-tuning uses the `optimizer` of the configuration with a fresh state, at its own
step size, which no schedule changes. The body's mean is FedAvg's, so with an adaptive
optimizer it may rest elsewhere than by SGD.

Reference: Oh, Kim and Yun, "FedBABU: Towards enhanced representation for federated
image classification", ICLR 2022, algorithm 1.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

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

FINE_TUNED_BLOCKS: dict[str, Block] = {
    "head": "personal",
    "body": "shared",
    "all": "both",
}


@algorithms.register("fedbabu")
@dataclass(frozen=True, kw_only=True)
class FedBABU(FederatedAveraging):
    """SGD on the body under the initial head, then a mean over participants."""

    lr: StepSize = DEFAULT_LR
    """Step size of the body in federated training."""

    work: LocalBudget = WORK
    """Length of a participant's work on the body."""

    lr_fine_tune: StepSize = DEFAULT_LR
    """Step size of fine-tuning."""

    fine_tune_work: LocalBudget = WORK
    """Length of fine-tuning, which every client does for every evaluation."""

    fine_tune: Literal["head", "body", "all"] = "all"
    """What fine-tuning trains; the rest stays the shared body or the initial head."""

    sharing: ClassVar[Sharing] = "split"

    def local_budgets(self) -> list[LocalBudget]:
        """Return the one phase."""
        return [self.work]

    def optimizer_states(self) -> list[tuple[str, Block]]:
        """Return the body: the head is not trained."""
        return [("", "shared")]

    def client_step(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> Tensor:
        (u_server,) = broadcast
        problem.shared.copy_(u_server)
        problem.personal.copy_(client["personal"])  # the initial head, for good
        self.minimize(problem, "shared", self.work, self.lr)
        return self.make_update(problem.shared, u_server, client, weight)

    def fine_tuning_budgets(self) -> list[LocalBudget]:
        """Return the one phase."""
        return [self.fine_tune_work]

    def load_personal_model(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> None:
        """Fine-tune the shared body, the initial head or both."""
        (u_server,) = broadcast
        problem.shared.copy_(u_server)
        problem.personal.copy_(client["personal"])
        self.minimize(
            problem,
            FINE_TUNED_BLOCKS[self.fine_tune],
            self.fine_tune_work,
            self.lr_fine_tune,
        )
