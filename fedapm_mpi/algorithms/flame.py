r"""FLAME: consensus ADMM on the clients' Moreau envelopes; each uses its minimiser.

The global model w minimises the sum over clients of

.. math:: \alpha_i \min_{\theta_i} \hat f_i(\theta_i)
          + \tfrac\lambda2 \|\theta_i - w\|^2, \qquad
          \hat f_i = f_i + \tfrac\mu2 \|\cdot\|^2,

with client weight :math:`\alpha_i` and weight decay :math:`\mu`. Client i holds the
personal model :math:`\theta_i`, its own copy :math:`w_i` of w and an **unscaled** dual
:math:`\pi_i`. A participant takes SGD steps on :math:`\theta_i` from where it last left
it, then solves exactly for :math:`w_i`:

.. math::
   \theta_i &\leftarrow \theta_i - \eta \bigl(\nabla \hat f_i(\theta_i)
      + \lambda (\theta_i - w_i)\bigr) \quad \text{for each mini-batch}, \\
   w_i &\leftarrow (\lambda \theta_i + \rho w^t - \pi_i) / (\lambda + \rho), \\
   \pi_i &\leftarrow \pi_i + \rho (w_i - w^t),

and the server's next w is the mean of :math:`w_i + \pi_i/\rho`, by weight, over
**all** m clients, those that sat the round out with what they last had. With
``units: weighted``, :math:`w_i` has :math:`\alpha_i \lambda` in place of
:math:`\lambda`, and the mean is not weighted. It is FedAPM for the loss
:math:`\hat f_i(v) + \tfrac\lambda2 \|v - u\|^2` of v and u with :math:`\sigma = 0`,
the v step at the client's own u and the u step exact.

Here :math:`w_i` and :math:`\pi_i` change once a round, where the version of FLAME in
the FedAPM authors' code changes them after every epoch. A client is evaluated with
:math:`\theta_i`, which until it first takes part is the initial model.

An `optimizer` takes the steps on :math:`\theta_i` and no others: it changes how near
they get to the minimiser, and neither the solution for :math:`w_i` nor the dual step.

Reference: Zhu et al., "On ADMM in heterogeneous federated learning: personalization,
robustness, and fairness", arXiv 2407.16397, 2024.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from fedapm_mpi.algorithms._local_training import LocalTraining
from fedapm_mpi.algorithms._units import ConsensusUnits
from fedapm_mpi.algorithms.base import (
    ClientState,
    LocalBudget,
    Objective,
    PositiveFloat,
    RoundInfo,
    Sharing,
    algorithms,
)
from fedapm_mpi.optim import admm
from fedapm_mpi.optim.default_solver import DEFAULT_LR, WORK, Penalty, StepSize
from fedapm_mpi.optim.hooks import pull as pull_hook


@algorithms.register("flame")
@dataclass(frozen=True, kw_only=True)
class Flame(LocalTraining, ConsensusUnits):
    """SGD on the personal model, then one exact ADMM step on the global one."""

    lam: PositiveFloat = 0.1
    r"""Coefficient :math:`\lambda` of the Moreau envelope of a client's own loss, in
    either unit."""

    rho: Penalty = 0.1
    r"""Penalty :math:`\rho`, in units of a client's loss (`units`) per squared unit of
    w."""

    lr_personal: StepSize = DEFAULT_LR
    r"""Step size :math:`\eta` of the personal model, on a client's own loss in either
    unit."""

    personal_work: LocalBudget = WORK
    """Length of the personal model's training."""

    sharing: ClassVar[Sharing] = "all"

    def admm_penalty(self) -> float:
        """Return the option rho."""
        return self.rho

    def local_budgets(self) -> list[LocalBudget]:
        """Return the one phase."""
        return [self.personal_work]

    def new_client(self, shared: Tensor, personal: Tensor) -> ClientState:
        return {
            "shared": shared.clone(),
            "personal": personal.clone(),
            "dual": torch.zeros_like(shared),
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
        w, dual, theta = client["shared"], client["dual"], client["own"]
        before = admm.augmented_model(w, dual, self.rho)
        problem.shared.copy_(theta)
        self.minimize(
            problem,
            "both",
            self.personal_work,
            self.lr_personal,
            partial(pull_hook, centre=w, strength=self.lam),
        )
        theta.copy_(problem.shared)
        # w_i as a step from the broadcast, which loses fewer digits than the quotient.
        pull = self.loss_factor(weight) * self.lam
        step = (theta - w_server).mul_(pull).sub_(dual).div_(pull + self.rho)
        torch.add(w_server, step, out=w)
        admm.dual_ascent_step(dual, w, w_server, self.rho)
        change = admm.augmented_model(w, dual, self.rho) - before
        return change.mul_(self.lagrangian_factor(weight))[None]

    def server_step(self, server: Tensor, total: Tensor, round_: RoundInfo) -> None:
        everyone, _ = self.factor_sums(round_)
        if everyone > 0:  # not so where none of the clients has samples, nor a weight
            server.add_(total, alpha=1 / everyone)

    def load_personal_model(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> None:
        problem.shared.copy_(client["own"])
