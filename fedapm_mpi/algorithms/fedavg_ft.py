r"""FedAvg-FT: FedAvg, and each client fine-tunes the global model before it uses it.

Training is FedAvg's to the last bit. A client's own model is where SGD on its training
loss, on all parameters, gets from the global model,

.. math:: w_i \leftarrow w_i - \eta_{\mathrm{ft}} \nabla f_i(w_i),
          \quad w_i = w \text{ at first},

each time that it is evaluated. It is thrown away afterwards, so how long one fine-tunes
does not change what is trained. FedAvg with ``evaluation.fine_tune`` of all blocks is
the same.

Fine-tuning has a fresh `optimizer` state and a constant step size: no schedule counts.

References: Yu, Bagdasaryan and Shmatikov, "Salvaging federated learning by local
adaptation", arXiv 2002.04758, 2020, where it is "fine-tuning"; Collins, Hassani,
Mokhtari and Shakkottai, "FedAvg with fine tuning: Local updates lead to representation
learning", NeurIPS 2022.
"""

from dataclasses import dataclass

from torch import Tensor

from fedapm_mpi.algorithms.base import (
    ClientState,
    LocalBudget,
    Objective,
    algorithms,
)
from fedapm_mpi.algorithms.fedavg import FedAvg
from fedapm_mpi.optim.default_solver import DEFAULT_LR, WORK, StepSize


@algorithms.register("fedavg-ft")
@dataclass(frozen=True, kw_only=True)
class FedAvgFT(FedAvg):
    """FedAvg; `batch_size` and `weight_decay` hold for fine-tuning too."""

    lr_fine_tune: StepSize = DEFAULT_LR
    """Step size of fine-tuning."""

    fine_tune_work: LocalBudget = WORK
    """Length of fine-tuning, which every client does for every evaluation."""

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
        """Fine-tune the global model, all of which is shared."""
        (u_server,) = broadcast
        problem.shared.copy_(u_server)
        self.minimize(problem, "both", self.fine_tune_work, self.lr_fine_tune)
