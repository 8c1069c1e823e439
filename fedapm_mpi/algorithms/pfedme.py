r"""pFedMe: gradient steps on each client's Moreau envelope, whose minimiser it uses.

With the envelope :math:`F_i(w) = \min_\theta f_i(\theta) + \tfrac\lambda2
\|\theta - w\|^2`, the global model minimises :math:`\sum_i \alpha_i F_i(w)` and a
client's own model is the minimiser :math:`\theta_i`. A participant begins with
:math:`w_i = \theta_i = w^t`, the broadcast, and for each mini-batch takes K gradient
steps on the inner problem (`inner_steps`), then one on its envelope:

.. math::
   \theta_i &\leftarrow \theta_i - \eta_p \bigl(\nabla f_i(\theta_i; \text{batch})
      + \lambda (\theta_i - w_i)\bigr) \quad \text{K times}, \\
   w_i &\leftarrow w_i - \eta \lambda (w_i - \theta_i),

and the server moves w towards the mean of the **participants**' :math:`w_i`, by client
weight:

.. math:: w^{t+1} = (1 - \beta) w^t
   + \beta \sum_{i\in S} \alpha_i w_i \Big/ \sum_{i\in S} \alpha_i.

The paper leaves open where :math:`\theta_i` starts; as in the authors' code it
continues from the mini-batch before. Only participants train: what the paper's other
clients compute in a round is never sent. A client is evaluated with the
:math:`\theta_i` of its last participation, or with the initial model before the first.

The theory asks for the accuracy of the inner solution, by any `optimizer`, whose steps
are those on :math:`\theta_i`. The step on the envelope stays plain: no optimizer or
schedule changes :math:`\eta`.

Reference: T Dinh, Tran and Nguyen, "Personalized federated learning with Moreau
envelopes", NeurIPS 2020, algorithm 1.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

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
from fedapm_mpi.optim.default_solver import DEFAULT_LR, WORK, StepSize
from fedapm_mpi.optim.hooks import pull
from fedapm_mpi.utils.types import PositiveInt


@algorithms.register("pfedme")
@dataclass(frozen=True, kw_only=True)
class PFedMe(LocalTraining):
    """Steps on the Moreau envelope, each after a few on the inner problem."""

    lam: PositiveFloat = 0.1
    r"""Coefficient :math:`\lambda` of the Moreau envelope."""

    lr_personal: StepSize = DEFAULT_LR
    r"""Step size :math:`\eta_p` of the inner problem."""

    inner_steps: PositiveInt = 5
    """Steps K on the inner problem, all on the same mini-batch."""

    eta: PositiveFloat = 10.0
    r"""Step size :math:`\eta` on the envelope; with :math:`\eta\lambda = 1` the step
    ends at :math:`\theta_i`."""

    work: LocalBudget = WORK
    """Length of the local work: a step on the envelope for each mini-batch."""

    beta: PositiveFloat = 1.0
    r"""Step size :math:`\beta` of the server; 1 is the plain mean."""

    sharing: ClassVar[Sharing] = "all"

    def local_budgets(self) -> list[LocalBudget]:
        """Return the one phase."""
        return [self.work]

    def new_client(self, shared: Tensor, personal: Tensor) -> ClientState:
        return {
            "shared": shared.clone(),
            "personal": personal.clone(),
            "own": shared.clone(),
        }

    def client_step(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> Tensor:
        (w_server,) = broadcast
        w, theta = client["shared"], problem.shared
        w.copy_(w_server)
        theta.copy_(w_server)
        self.minimize(
            problem,
            "both",
            self.work,
            self.lr_personal,
            partial(pull, centre=w, strength=self.lam),
            steps_per_batch=self.inner_steps,
            after_batch=lambda: w.sub_(w - theta, alpha=self.eta * self.lam),
        )
        client["own"].copy_(theta)
        return weighted_delta(w, w_server, weight)

    def server_step(self, server: Tensor, total: Tensor, round_: RoundInfo) -> None:
        if round_.weight_sum > 0:  # not so where all participants are empty
            server[0].add_(total[0], alpha=self.beta / round_.weight_sum)

    def load_personal_model(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> None:
        problem.shared.copy_(client["own"])
