r"""Plain SGD, :math:`w \leftarrow w - \eta g`."""

from dataclasses import dataclass

from torch import Tensor

from fedapm_mpi.optim.optimizers.base import optimizers


@optimizers.register("sgd")
@dataclass(frozen=True)
class SGD:
    """Steps along the negative gradient; no state."""

    def init(self, size: int) -> dict[str, Tensor]:
        """Return an empty state."""
        return {}

    def step(
        self, vector: Tensor, gradient: Tensor, state: dict[str, Tensor], lr: float
    ) -> None:
        """Subtract `lr` times the gradient from the block, (d,)."""
        vector.sub_(gradient, alpha=lr)
