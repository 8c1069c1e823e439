r"""IIADMM: several linearised proximal steps on the whole model, then one dual step.

Client i holds its own copy :math:`z_i` of the model and an **unscaled** dual
:math:`\pi_i`; the server holds u. With weight decay inside :math:`f_i` and one z for
each mini-batch, a participant takes, from u or from its own :math:`z_i` (`init`), steps

.. math::
   z \leftarrow \arg\min_{z'} \; \langle \nabla f_i(z) + \pi_i, z' \rangle
     + \tfrac\rho2 \|z' - u\|^2 + \tfrac\zeta2 \|z' - z\|^2
   = z - \frac{\nabla f_i(z) + \pi_i + \rho (z - u)}{\rho + \zeta}

until :math:`z_i`, and then once :math:`\pi_i \leftarrow \pi_i + \rho (z_i - u)`. The
server's next u is the mean of :math:`z_i + \pi_i/\rho`, by the clients' weights
:math:`\alpha_i`, over **all** clients. In the papers' form (``units: weighted``) it is
:math:`\alpha_i f_i`, and the mean is not weighted. It is FedADMM with the step size
:math:`1/(\rho + \zeta)`.

The papers' dual is :math:`\lambda_i = -\pi_i`. Their clients send :math:`z_i` alone
and the server replays the duals; here a client sends the change of
:math:`z_i + \pi_i/\rho`, of the same size, and the server keeps no state of clients.
APPFL's code differs: there the gradient of a mini-batch has the weight 1, or
:math:`\alpha_i` times the batch's share of the samples, so that an epoch of steps sees
the whole loss once, where here each step's gradient estimates that of the whole
:math:`f_i`, or :math:`\alpha_i f_i`; and since its rewrite :math:`\zeta` is 0, with
``init: local``. Noise for differential privacy is left out.

With an `optimizer` other than plain SGD, a schedule or a clip, z does not move to the
minimiser above, on which the theory rests: :math:`1/(\rho + \zeta)` is then no more
than a step size.

References: Ryu and Kim, "Differentially private federated learning via inexact ADMM
with multiple local updates", arXiv 2202.09409, 2022; Ryu et al., "APPFL: Open-source
software framework for privacy-preserving federated learning", IPDPS workshops 2022,
algorithm 1.
"""

from dataclasses import dataclass

from fedapm_mpi.algorithms._consensus_admm import RelaxedADMM
from fedapm_mpi.algorithms.base import algorithms
from fedapm_mpi.algorithms.fedadmm import FullModelADMM
from fedapm_mpi.optim.default_solver import DEFAULT_LR, RHO, Proximity


@algorithms.register("iiadmm")
@dataclass(frozen=True, kw_only=True)
class IIADMM(FullModelADMM, RelaxedADMM):
    """Linearised proximal steps on the augmented Lagrangian, then one dual step."""

    zeta: Proximity = 1 / DEFAULT_LR - RHO
    r"""Proximity :math:`\zeta` to where a step starts, in units of :math:`\rho`."""

    def step_size(self, weight: float) -> float:
        return 1 / (self.rho + self.zeta)
