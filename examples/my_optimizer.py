r"""A local optimizer of your own: heavy-ball momentum at the clients.

    fedapm train examples/sensors.yaml \
        'algorithm={name: "./examples/my_optimizer.py:FedSimWithMomentum", lr: 0.05, \
        batch_size: 16, work: {epochs: 2}}'

.. math:: m \leftarrow \beta m + g, \quad w \leftarrow w - \eta m.

Each local phase begins with a fresh state, so nothing is added to what a client keeps
between rounds. `gradient` has proximal terms, duals and weight decay in it: the same
optimizer works in FedAPM, FedProx and all others whose steps are gradient steps.

Reference: Polyak, "Some methods of speeding up the convergence of iteration methods",
USSR Computational Mathematics and Mathematical Physics, 1964.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedapm_mpi.algorithms.fedapm import FedAPM
from fedapm_mpi.algorithms.fedsim import FedSim


@dataclass(frozen=True)
class HeavyBall:
    """Momentum, a `LocalOptimizer`."""

    beta: float = 0.9
    """Decay of the momentum."""

    def init(self, size: int) -> dict[str, Tensor]:
        """Return the state at the beginning of a phase over `size` numbers."""
        return {"momentum": torch.zeros(size)}

    def step(
        self, vector: Tensor, gradient: Tensor, state: dict[str, Tensor], lr: float
    ) -> None:
        """Update the block (d,) in place."""
        vector.sub_(state["momentum"].mul_(self.beta).add_(gradient), alpha=lr)


class FedSimWithMomentum(FedSim):
    """FedSim with momentum in its local phase."""

    local_optimizer = HeavyBall()


class FedAPMWithMomentum(FedAPM):
    """FedAPM with momentum in the local phases of both blocks."""

    local_optimizer = HeavyBall()
