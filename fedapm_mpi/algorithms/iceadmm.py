r"""ICEADMM: linearised steps on the whole model, each followed by a dual step.

Client i holds its own copy :math:`z_i` of the model and an **unscaled** dual
:math:`\pi_i`; the server holds u. With weight decay inside :math:`f_i`, a participant
continues from its own :math:`z_i`, or starts at u (`init`), and for each mini-batch
sets

.. math::
   z_i &\leftarrow z_i - \frac{\nabla f_i(z_i) + \pi_i + \rho (z_i - u)}
     {\rho + r}, \\
   \pi_i &\leftarrow \pi_i + \rho (z_i - u).

The first minimises the augmented Lagrangian with :math:`f_i` replaced by its quadratic
model of curvature r at :math:`z_i`. The server's next u is the mean of
:math:`z_i + \pi_i/\rho`, by the clients' weights :math:`\alpha_i`, over **all**
clients. Many local steps lead to :math:`z_i = u` and :math:`\pi_i = -\nabla f_i(u)`, so
that a round is then a step of gradient descent of size :math:`1/\rho`; with one local
step it is IIADMM, of :math:`\zeta = r`.

With ``units: weighted``, :math:`f_i` and r have the factor :math:`\alpha_i`, and the
mean is not weighted; that step of gradient descent is then of size
:math:`1/(m\rho)`. Signs and weights are so the paper's, whose penalties may differ
between clients and whose matrix :math:`H_i` is here r times the identity. Its clients
all take part; here those that do not take part keep what they last sent. The authors'
code takes :math:`r_i = L_i` and starts each round at u, APPFL's continues from
:math:`z_i`, and weighs the gradient of a mini-batch by 1, or by :math:`\alpha_i` times
its share of the samples; here each step's gradient estimates that of the whole
:math:`f_i`, or :math:`\alpha_i f_i`. Optimizers other than SGD: see IIADMM.

Reference: Zhou and Li, "Communication-efficient ADMM-based federated learning", arXiv
2110.15318, 2021, the inexact of its two methods.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fedapm_mpi.algorithms.base import ClientState, algorithms
from fedapm_mpi.algorithms.fedadmm import FullModelADMM
from fedapm_mpi.optim import admm
from fedapm_mpi.optim.default_solver import Curvature, Penalty


@algorithms.register("iceadmm")
@dataclass(frozen=True, kw_only=True)
class ICEADMM(FullModelADMM):
    r"""Alternating primal and dual steps, then the mean of :math:`z_i+\pi_i/\rho`."""

    rho: Penalty = 1.0
    r"""Penalty :math:`\rho`, in units of a client's loss (`units`) per squared unit of
    the model. Well below 1 the dual, which gathers all steps of a round, overshoots.
    """

    curvature: Curvature = 1 / 0.03 - 1
    r"""Curvature r of the model of a client's own loss, in either unit. Where it is a
    Lipschitz constant of :math:`\nabla f_i`, the model bounds the loss above."""

    init: Literal["global", "local"] = "local"
    """Where local steps start: at the client's own copy or at the broadcast model. A
    configuration that gives no step size gets the latter."""

    def step_size(self, weight: float) -> float:
        return 1 / (self.rho + weight * self.curvature)

    def after_step(self, anchor: Tensor, client: ClientState, w: Tensor) -> None:
        admm.dual_ascent_step(client["dual"], w, anchor, self.rho)
