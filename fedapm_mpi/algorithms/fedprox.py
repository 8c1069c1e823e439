r"""FedProx: FedAvg with a proximal term towards the broadcast model.

With client weight :math:`\alpha_i` and weight decay inside :math:`f_i`, participants
take SGD steps from :math:`w^t` on

.. math:: f_i(w) + \tfrac\mu2 \|w - w^t\|^2,

and the server averages their models, as FedAvg's does. The proximal term is added to
:math:`f_i` itself: :math:`\mu` means the same for any number of clients and any client
weight. With :math:`\mu = 0` it is FedAvg, bit for bit.

The theory asks for the accuracy of the local solution relative to its start, by any
`optimizer`. It gets the gradient of the whole local problem, so one that decays no
weights does not move its solution.

Reference: Li et al., "Federated optimization in heterogeneous networks", MLSys 2020,
algorithm 2.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from fedapm_mpi.algorithms.base import (
    ClientState,
    NonNegativeFloat,
    Objective,
    Sharing,
    algorithms,
)
from fedapm_mpi.algorithms.fedsim import FedSim
from fedapm_mpi.optim.hooks import pull


@algorithms.register("fedprox")
@dataclass(frozen=True, kw_only=True)
class FedProx(FedSim):
    """Proximal SGD on the whole model at the participants, then their mean."""

    mu: NonNegativeFloat = 0.01
    r"""Proximal coefficient :math:`\mu`, in units of a client's loss per squared unit
    of the model; not scaled by the client weight."""

    sharing: ClassVar[Sharing] = "all"

    def client_step(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> Tensor:
        if self.mu == 0:  # adding even a zero turns a gradient of -0 into +0
            return super().client_step(broadcast, client, problem, weight)
        (w_server,) = broadcast

        problem.shared.copy_(w_server)
        hook = partial(pull, centre=w_server, strength=self.mu)
        self.minimize(problem, "both", self.work, self.lr, hook)
        return self.make_update(problem.shared, w_server, client, weight)
