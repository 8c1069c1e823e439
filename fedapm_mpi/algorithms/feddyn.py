r"""FedDyn: a linear term for each client makes the local and the global minimum one.

Client i holds :math:`g_i`, the server the model :math:`\theta` and h, all zero but
:math:`\theta` at first. With penalty a and weight decay inside :math:`f_i`, a
participant minimises by SGD from :math:`\theta^t`

.. math:: f_i(\theta_i) - \langle g_i, \theta_i \rangle
          + \tfrac a2 \|\theta_i - \theta^t\|^2

and sets :math:`g_i \leftarrow g_i - a (\theta_i - \theta^t)`, which at the minimum is
:math:`\nabla f_i(\theta_i)`. With client weights :math:`\alpha_i`, where the paper has
1/m, the server sets

.. math::
   h \leftarrow h - a \sum_{i \in S} \alpha_i (\theta_i - \theta^t), \qquad
   \theta^{t+1} = \sum_{i \in S} \alpha_i \theta_i \Big/ \sum_{i \in S} \alpha_i
                  - \frac h a,

so that :math:`h = \sum_i \alpha_i g_i` over all clients after every round. It comes to
rest where all :math:`\theta_i = \theta` and h = 0, that is at a stationary point of
:math:`\sum_i \alpha_i f_i`. The paper minimises the uniform mean; for its method
:math:`\alpha_i` stands for that share of clients with the same loss. In the weighted
objective client i's penalty is :math:`\alpha_i a`, and a means the same for any weight.

The theory is for solved local problems, by any `optimizer`; only there is :math:`g_i`
the gradient. After steps that end before it, :math:`g_i` depends on how far the
optimizer got.

Reference: Acar et al., "Federated learning based on dynamic regularization", ICLR 2021,
algorithm 1.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from fedapm_mpi.algorithms._local_training import LocalTraining
from fedapm_mpi.algorithms.base import (
    ClientState,
    LocalBudget,
    Objective,
    PositiveFloat,
    RoundInfo,
    Sharing,
    algorithms,
    weighted_delta,
)
from fedapm_mpi.optim.default_solver import DEFAULT_LR, RHO, WORK, StepSize
from fedapm_mpi.optim.hooks import elementwise


@algorithms.register("feddyn")
@dataclass(frozen=True, kw_only=True)
class FedDyn(LocalTraining):
    """SGD on the dynamically regularised loss, then a corrected mean."""

    penalty: PositiveFloat = RHO
    r"""Penalty a (the paper's :math:`\alpha`), in units of a client's loss per squared
    unit of the model; the local phase has to keep ``lr * penalty`` well below 2."""

    lr: StepSize = DEFAULT_LR
    """Step size of the local phase."""

    work: LocalBudget = WORK
    """Length of the local phase."""

    sharing: ClassVar[Sharing] = "all"

    def server_memory_rows(self) -> int:
        """Return 1, for the server's h."""
        return 1

    def local_budgets(self) -> list[LocalBudget]:
        """Return the one phase."""
        return [self.work]

    def new_client(self, shared: Tensor, personal: Tensor) -> ClientState:
        return {
            "shared": shared.clone(),
            "personal": personal.clone(),
            "gradient": torch.zeros_like(shared),
        }

    def client_step(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> Tensor:
        (server,) = broadcast
        own, theta = client["gradient"], client["shared"]

        problem.shared.copy_(server)
        hook = partial(_regularize, own=own, centre=server, strength=self.penalty)
        self.minimize(problem, "both", self.work, self.lr, hook)
        theta.copy_(problem.shared)
        own.sub_(theta - server, alpha=self.penalty)
        return weighted_delta(theta, server, weight)

    def server_step(self, server: Tensor, total: Tensor, round_: RoundInfo) -> None:
        theta, h = server
        h.sub_(total[0], alpha=self.penalty)
        if round_.weight_sum > 0:  # not so where all participants are empty
            mean_change = total[0] / round_.weight_sum
            scale = self.penalty * round_.weight_total
            theta.add_(mean_change).sub_(h, alpha=1 / scale)


@elementwise
def _regularize(
    gradient: Tensor, theta: Tensor, *, own: Tensor, centre: Tensor, strength: float
) -> None:
    """Add the gradients of the linear and the proximal term, (d,)."""
    gradient.sub_(own).add_(theta - centre, alpha=strength)
