r"""The loss in whose units a method with duals works: a client's own, or weighed.

The problem is :math:`\min \sum_i \alpha_i f_i(v_i, u_i)` subject to :math:`u_i = u`.
Its augmented Lagrangian may be written with a dual and a penalty of the client's
own loss, or of the weighted one:

.. math::
   \sum_i \alpha_i \bigl(f_i + \langle \pi_i, u_i - u \rangle
     + \tfrac\rho2 \|u_i - u\|^2\bigr)
   \quad\text{or}\quad
   \sum_i \alpha_i f_i + \langle \pi_i, u_i - u \rangle + \tfrac\rho2 \|u_i - u\|^2 .

The first is the second with the dual :math:`\alpha_i \pi_i` and a penalty
:math:`\alpha_i \rho` of each client's own, whose minimiser in u is the weighted mean of
:math:`u_i + \pi_i/\rho`. It is the method of multipliers for the constraints
:math:`\sqrt{\alpha_i}\,(u_i - u) = 0`, with one penalty. Local problems, and so step
sizes, then do not depend on how many clients there are. For equal weights 1/m both are
the same iteration, where :math:`\rho`, :math:`\pi_i` and proximal coefficients of the
first are m times, and step sizes one m-th of, those of the second.
"""

from dataclasses import dataclass
from typing import Literal

from fedapm_mpi.algorithms.base import Algorithm, RoundInfo


@dataclass(frozen=True, kw_only=True)
class ConsensusUnits(Algorithm):
    """Base of the methods with duals that work in either unit."""

    units: Literal["client", "weighted"] = "client"
    r"""Loss in whose units step sizes, penalties and duals are: a client's own
    :math:`f_i`, whatever the number of clients, or :math:`\alpha_i f_i` (as in the
    papers)."""

    def client_units(self) -> bool:
        """Return whether they are in units of a client's own loss."""
        return self.units == "client"

    def loss_factor(self, weight: float) -> float:
        r"""Return the factor of :math:`f_i` in a client's local problem."""
        return 1.0 if self.client_units() else weight

    def lagrangian_factor(self, weight: float) -> float:
        """Return the factor of a client's local problem in the Lagrangian."""
        return weight if self.client_units() else 1.0

    def factor_sums(self, round_: RoundInfo) -> tuple[float, float]:
        """Return the sum of `lagrangian_factor` over all clients, and participants."""
        if self.client_units():
            return round_.weight_total, round_.weight_sum
        return float(round_.num_clients), float(round_.participants)
