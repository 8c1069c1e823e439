r"""FedADMM: consensus ADMM in which every parameter is shared.

Client i holds its own copy :math:`w_i` of the model and an **unscaled** dual
:math:`\pi_i`; the server holds u. With weight decay inside :math:`f_i`, a participant
takes SGD steps, from u or from its own :math:`w_i` (`init`), on its augmented
Lagrangian, and then ascends its dual:

.. math::
   w_i &\approx \arg\min_w \; f_i(w) + \langle \pi_i, w - u \rangle
         + \tfrac\rho2 \|w - u\|^2, \\
   \pi_i &\leftarrow \pi_i + \rho (w_i - u).

It sends the change :math:`\Delta_i` of :math:`z_i = w_i + \pi_i/\rho`, and the server
sets :math:`u \leftarrow u + \tfrac{\eta}{|S|} \sum_{i\in S} \Delta_i`. The paper runs
this with :math:`\eta = 1` or :math:`|S|/m`. With the latter (``server_average: all``,
the default) u is the mean of :math:`z_i` over all m clients, and the method is FedAPM
without a personal block; it then comes to rest only at stationary points of
:math:`F = \sum_i \alpha_i f_i`, with client weights :math:`\alpha_i`. With any other
step (``server_average: participants``) the duals at rest do not add up to zero: where
|S| is always the same and all weights are, a point of rest is stationary for

.. math:: F(u) + \tfrac{\rho}2 \Bigl(\frac{|S|}{m\eta} - 1\Bigr) \|u - u^0\|^2,

that is, drawn to the initial model, or driven away from it.

The paper's losses have no weights. Here a client's :math:`\Delta_i` counts
:math:`\alpha_i` times in the mean, which is over the participants' weights, or over
all. With ``units: weighted`` means are not weighted, but the local problem has
:math:`\alpha_i f_i`: for :math:`\alpha_i = 1/m` its penalty and duals are one m-th of
the paper's, and its step size is m times. In the authors' code a client starts at u and
sends :math:`w_i - u` in place of the change of :math:`w_i`; here it is the change, as
in the paper.

The theory asks for the accuracy of the local solutions, by any `optimizer`; a fixed
number of steps of an adaptive one does not ensure it.

Reference: Gong, Li and Freris, "FedADMM: A robust federated deep learning framework
with adaptivity to system heterogeneity", ICDE 2022, algorithm 1.
"""

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from fedapm_mpi.algorithms._consensus_admm import ConsensusADMM, RelaxedADMM
from fedapm_mpi.algorithms.base import (
    BatchSize,
    ClientState,
    LocalBudget,
    NonNegativeFloat,
    Objective,
    PositiveFloat,
    RoundInfo,
    Sharing,
    algorithms,
    minimize,
)
from fedapm_mpi.optim import admm
from fedapm_mpi.optim.default_solver import BATCH_SIZE, DEFAULT_LR, WORK, StepSize
from fedapm_mpi.optim.local import forbid_tolerance


@dataclass(frozen=True, kw_only=True)
class FullModelADMM(ConsensusADMM):
    """Gradient steps on the augmented Lagrangian of the whole model."""

    batch_size: BatchSize = BATCH_SIZE
    """Samples in a mini-batch; 0 is the full batch."""

    work: LocalBudget = WORK
    """Length of the local phase."""

    init: Literal["global", "local"] = "global"
    """Where local steps start: at the broadcast model or at the client's own copy."""

    weight_decay: NonNegativeFloat = 0.0
    """L2 decay of the model, included in a client's loss."""

    sharing: ClassVar[Sharing] = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        forbid_tolerance(work=self.work)

    def mini_batch_size(self) -> int:
        """Return the option."""
        return self.batch_size

    def local_budgets(self) -> list[LocalBudget]:
        """Return the one phase."""
        return [self.work]

    def loss_decay(self) -> float:
        """Return the option."""
        return self.weight_decay

    @abstractmethod
    def step_size(self, weight: float) -> float:
        """Return the size of a client's local steps, given the factor of its loss."""

    def after_step(self, anchor: Tensor, client: ClientState, w: Tensor) -> None:
        """Update the client after each local step to `w`; nothing by default."""

    def solve(
        self,
        u_server: Tensor,
        anchor: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> None:
        """Descend on the augmented Lagrangian, the client's dual included."""
        w = problem.shared
        w.copy_(u_server if self.init == "global" else client["shared"])
        hook = partial(
            admm.shared_gradient,
            u_server=anchor,
            dual=client["dual"],
            weight=weight,
            weight_decay=self.weight_decay,
            rho=self.rho,
        )
        steps = minimize(
            problem,
            "shared",
            self.work,
            batch_size=self.batch_size,
            lr=self.step_size(weight),
            gradient_hook=hook,
            after_batch=lambda: self.after_step(anchor, client, w),
        )
        # Without a loss there is only the penalty, whose minimizer is the anchor. An
        # unchanged copy would pull the server's mean to the initial model for ever.
        client["shared"].copy_(w if steps else anchor)


@algorithms.register("fedadmm")
@dataclass(frozen=True, kw_only=True)
class FedADMM(FullModelADMM, RelaxedADMM):
    r"""SGD on the augmented Lagrangian, one dual step, and the mean of :math:`z_i`."""

    lr: StepSize = DEFAULT_LR
    """Step size of the local phase, on a client's loss (`units`)."""

    server_average: Literal["all", "participants"] = "all"
    r"""Clients in the server's mean: all m clients with their last updates, which is
    the paper's :math:`\eta = |S|/m`, or this round's participants."""

    lr_server: PositiveFloat | None = None
    r"""Server's step size :math:`\eta` along the participants' mean change; 1 unless
    given, as in the paper."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.server_average == "all" and self.lr_server is not None:
            msg = (
                "lr_server has no effect with server_average 'all', which steps by "
                "|S|/m; leave it out, or average participants"
            )
            raise ValueError(msg)
        for name in self.changing_penalty():
            if self.server_average == "participants":
                msg = (
                    f"{name} needs server_average 'all': a mean of the participants' "
                    "changes ignores clients that still have another penalty"
                )
                raise ValueError(msg)

    def step_size(self, weight: float) -> float:
        return self.lr

    def server_step(self, server: Tensor, total: Tensor, round_: RoundInfo) -> None:
        _, chosen = self.factor_sums(round_)
        if self.server_average == "all":
            super().server_step(server, total, round_)
        elif chosen > 0:
            lr = 1.0 if self.lr_server is None else self.lr_server
            server[0].add_(total[0], alpha=lr / chosen)
