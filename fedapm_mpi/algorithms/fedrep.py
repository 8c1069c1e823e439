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

The theory is for linear models, heads that are solved for, by any `optimizer`, and
gradient steps on the representation: an adaptive optimizer there is outside it.

Reference: Collins, Hassani, Mokhtari and Shakkottai, "Exploiting shared representations
for personalized federated learning", ICML 2021, algorithm 1.
"""

from dataclasses import dataclass

from fedapm_mpi.algorithms.base import LocalBudget, algorithms
from fedapm_mpi.algorithms.fedalt import AlternatingTraining, Phase
from fedapm_mpi.optim.default_solver import DEFAULT_LR, WORK, StepSize


@algorithms.register("fedrep")
@dataclass(frozen=True, kw_only=True)
class FedRep(AlternatingTraining):
    """Head phase, then representation phase, then a mean over participants."""

    lr_head: StepSize = DEFAULT_LR
    """Step size of the head phase."""

    lr_body: StepSize = DEFAULT_LR
    """Step size of the representation phase."""

    head_work: LocalBudget = WORK
    """Length of the head phase."""

    body_work: LocalBudget = WORK
    """Length of the representation phase."""

    def phases(self) -> tuple[Phase, Phase]:
        return (
            Phase(self.head_work, self.lr_head),
            Phase(self.body_work, self.lr_body),
        )
