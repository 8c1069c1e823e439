r"""FedRep: each head is fitted to a shared representation, then that to the head.

With the representation u and the head v_i, a participant takes its head steps at the
broadcast u, then representation steps at the new head,

.. math:: v_i \leftarrow v_i - \eta_v \nabla_v f_i(v_i, u), \qquad
          u_i \leftarrow u_i - \eta_u \nabla_u f_i(v_i, u_i), \quad u_i = u
          \text{ at first};

the server averages the u_i of the participants, by client weight (the paper's is the
same for all: ``client_weights: uniform``). Many head steps to one step or epoch of the
representation are what the paper argues for.

It is FedAlt under other names: with the same lengths and step sizes both do the same,
bit for bit.

Reference: Collins, Hassani, Mokhtari and Shakkottai, "Exploiting shared representations
for personalized federated learning", ICML 2021, algorithm 1.
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


@algorithms.register("fedrep")
@dataclass(frozen=True, kw_only=True)
class FedRep(FederatedAveraging):
    """Head phase, then representation phase, then a mean over participants."""

    lr_head: PositiveFloat
    """Step size of the head phase."""

    lr_body: PositiveFloat
    """Step size of the representation phase."""

    head_work: LocalBudget
    """Length of the head phase."""

    body_work: LocalBudget
    """Length of the representation phase."""

    sharing: ClassVar[Sharing] = "split"

    def local_budgets(self) -> list[LocalBudget]:
        """Return both phases, in their order."""
        return [self.head_work, self.body_work]

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
        self.minimize(problem, "personal", self.head_work, self.lr_head)
        self.minimize(problem, "shared", self.body_work, self.lr_body)
        client["personal"].copy_(problem.personal)
        return self.make_update(problem.shared, u_server, client, weight)
