r"""A local optimizer of your own: heavy-ball momentum at the clients.

    fedapm train examples/sensors.yaml \
        'optimizer={name: "./examples/my_optimizer.py:HeavyBall", beta: 0.5}'

.. math:: m \leftarrow \beta m + g, \quad w \leftarrow w - \eta m.

`gradient` has proximal terms, duals and weight decay in it: the same optimizer works in
FedAPM, FedProx and all others whose steps are gradient steps. With ``state: keep`` a
client keeps the momentum until it next takes part; otherwise each local phase begins
without.

Reference: Polyak, "Some methods of speeding up the convergence of iteration methods",
USSR Computational Mathematics and Mathematical Physics, 1964.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class HeavyBall:
    """Momentum, a `LocalOptimizer`."""

    beta: float = 0.9
    """Decay of the momentum."""

    def init(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the state before the first step on a block, (d,)."""
        return {"momentum": torch.zeros_like(vector)}

    def step(
        self, vector: Tensor, gradient: Tensor, state: dict[str, Tensor], lr: float
    ) -> None:
        """Update the block (d,) in place."""
        vector.sub_(state["momentum"].mul_(self.beta).add_(gradient), alpha=lr)
