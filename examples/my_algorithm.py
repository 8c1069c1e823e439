r"""An algorithm of your own: FedSAM, sharpness-aware minimisation at the clients.

    fedapm train examples/sensors.yaml \
        'algorithm={name: "./examples/my_algorithm.py:FedSAM", lr: 0.2, rho: 0.05, \
        batch_size: 16, work: {epochs: 2}}'

A participant takes each gradient where the loss is nearly the largest within a radius
:math:`\rho` of its model w, and steps from w:

.. math:: w \leftarrow w - \eta \nabla f_i\bigl(w + \rho \, g / \|g\|\bigr),
          \quad g = \nabla f_i(w).

The server averages the shared blocks of the participants. The field `rho` is a radius:
no field of an algorithm has a meaning other than its own.

Reference: Qu et al., "Generalized federated learning via sharpness aware minimization",
ICML 2022 (FedSAM).
"""

from dataclasses import dataclass

from torch import Tensor

from fedapm_mpi.algorithms.base import ClientState, Objective, PositiveFloat
from fedapm_mpi.algorithms.fedsim import FedSim


@dataclass(frozen=True, kw_only=True)
class FedSAM(FedSim):
    """FedSim, with SAM's steps in place of plain gradient steps."""

    rho: PositiveFloat
    """Radius of the neighbourhood, in units of the model."""

    def client_step(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> Tensor:
        """Train both blocks; return the update (1, d_shared) in float64."""
        (u_server,) = broadcast
        problem.shared.copy_(u_server)
        problem.personal.copy_(client["personal"])
        blocks = (problem.shared, problem.personal)
        for batch in problem.batches("joint", self.work, self.batch_size):
            start = [block.clone() for block in blocks]
            ascent = self._gradient(problem, batch)
            length = sum(float(g.square().sum()) for g in ascent) ** 0.5
            for block, g in zip(blocks, ascent, strict=True):
                block.add_(g, alpha=self.rho / max(length, 1e-12))
            descent = self._gradient(problem, batch)
            for block, begin, g in zip(blocks, start, descent, strict=True):
                block.copy_(begin).sub_(g, alpha=self.lr)
        client["personal"].copy_(problem.personal)
        return self.make_update(problem.shared, u_server, client, weight)

    def _gradient(self, problem: Objective, batch: object) -> tuple[Tensor, Tensor]:
        """Return copies of both blocks' gradients, weight decay included."""
        gradient = problem.gradient("both", batch)
        cut = len(problem.shared)
        return (
            gradient[:cut].add(problem.shared, alpha=self.weight_decay),
            gradient[cut:].add(problem.personal, alpha=self.weight_decay),
        )
