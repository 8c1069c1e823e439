r"""SCAFFOLD: control variates take the clients' drift out of their SGD steps.

Client i holds a control variate :math:`c_i`, the server the model x and c, all zero but
x at first. A participant takes K steps of size :math:`\eta` from :math:`y_i = x`,

.. math:: y_i \leftarrow y_i - \eta\,(g_i(y_i) - c_i + c),

with :math:`g_i` a mini-batch gradient of :math:`f_i`, weight decay included, and then
replaces its control variate (`control_variate`) by

.. math::
   c_i^+ = \nabla f_i(x) \quad\text{(gradient)} \qquad\text{or}\qquad
   c_i^+ = c_i - c + \frac{x - y_i}{K \eta} \quad\text{(steps)}.

With client weights :math:`\alpha_i`, where the paper has 1/m, and server step size
:math:`\eta_g`,

.. math::
   x \leftarrow x + \eta_g \sum_{i\in S} \alpha_i (y_i - x) \Big/
        \sum_{i\in S} \alpha_i, \qquad
   c \leftarrow c + \sum_{i\in S} \alpha_i (c_i^+ - c_i),

so that :math:`c = \sum_i \alpha_i c_i` over all clients after every round. K counts the
steps really taken; a client without samples takes none and changes nothing. With an
optimizer, a schedule or a clip the way from x to :math:`y_i` is no longer
:math:`K\eta` times the mean gradient, and ``steps`` takes the mean of the
:math:`g_i(y_i)` themselves, which is the same for plain SGD. The first
round's clients do as FedAvg's. A round sends twice as much as FedAvg's, both ways.

Corrections are added before the `optimizer` gets the gradient. The theory is for SGD:
corrections add up to zero over the clients, and so do their effects where steps are
linear in the gradient, which those of Adam are not.

Reference: Karimireddy et al., "SCAFFOLD: stochastic controlled averaging for federated
learning", ICML 2020, algorithm 1 (gradient is its option I, steps its option II).
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

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
from fedapm_mpi.optim.default_solver import DEFAULT_LR, WORK, StepSize
from fedapm_mpi.optim.hooks import GradientHook, add


@algorithms.register("scaffold")
@dataclass(frozen=True, kw_only=True)
class Scaffold(LocalTraining):
    """Corrected SGD on the whole model, then a step of the server's model and c."""

    lr: StepSize = DEFAULT_LR
    r"""Step size :math:`\eta` of the local steps."""

    work: LocalBudget = WORK
    """Length of the local phase."""

    control_variate: Literal["gradient", "steps"] = "steps"
    """New control variate: the gradient over all samples at the broadcast model (one
    more pass over them, without dropout), or the mean of the steps' gradients."""

    lr_server: PositiveFloat = 1.0
    r"""Step size :math:`\eta_g` along the mean change; 1 is the plain mean."""

    sharing: ClassVar[Sharing] = "all"
    rows: ClassVar[int] = 2

    def local_budgets(self) -> list[LocalBudget]:
        """Return the one phase."""
        return [self.work]

    def new_client(self, shared: Tensor, personal: Tensor) -> ClientState:
        return {
            "shared": shared.clone(),
            "personal": personal.clone(),
            "control": torch.zeros_like(shared),
        }

    def client_step(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> Tensor:
        x, c = broadcast
        y, control = client["shared"], client["control"]
        correction = c - control
        summed = self.control_variate == "steps" and not problem.solver.plain
        gradients = torch.zeros_like(x) if summed else None

        def sum_up(gradient: Tensor, _y: Tensor) -> None:
            assert gradients is not None
            gradients.add_(gradient)
            gradient.add_(correction)

        hook: GradientHook = sum_up if summed else partial(add, correction=correction)
        problem.shared.copy_(x)
        steps = self.minimize(problem, "both", self.work, self.lr, hook)
        y.copy_(problem.shared)

        before = control.clone()
        if steps == 0:  # no samples
            pass
        elif self.control_variate == "gradient":
            problem.shared.copy_(x)
            gradient = problem.full_gradient("shared")
            control.copy_(gradient).add_(x, alpha=self.weight_decay)
        elif gradients is not None:  # the way from x to y is not their sum
            control.copy_(gradients.div_(steps))
        else:
            control.sub_(c).add_(x - y, alpha=1 / (steps * self.lr))
        # From the control as it is stored: c stays the exact sum, without rounding.
        return torch.cat(
            [weighted_delta(y, x, weight), weighted_delta(control, before, weight)]
        )

    def server_step(self, server: Tensor, total: Tensor, round_: RoundInfo) -> None:
        x, c = server
        if round_.weight_sum > 0:  # not so where all participants are empty
            x.add_(total[0] / round_.weight_sum, alpha=self.lr_server)
        c.add_(total[1], alpha=1 / round_.weight_total)
