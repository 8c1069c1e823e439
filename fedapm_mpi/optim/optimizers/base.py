"""The interface of an optimizer that a client uses in a local phase."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from fedapm_mpi.registry import Registry


class LocalOptimizer(Protocol):
    """A rule that turns gradients into steps on one block of a model.

    Each local phase begins with a fresh state, so that a client's state between rounds
    does not depend on the optimizer. One instance serves all clients: what changes from
    step to step belongs in the state.
    """

    def init(self, size: int) -> dict[str, Tensor]:
        """Return the state at the beginning of a phase.

        Parameters
        ----------
        size
            Numbers in the block, d.

        Returns
        -------
        dict of Tensor
            Tensors of any shape. Those of floating point are converted to the block's
            dtype, and all are moved to its device, before the first step.
        """
        ...

    def step(
        self, vector: Tensor, gradient: Tensor, state: dict[str, Tensor], lr: float
    ) -> None:
        """Update a block in place.

        Parameters
        ----------
        vector : (d,)
            The block.
        gradient : (d,)
            Gradient of the local objective in the block, with proximal terms, duals and
            weight decay included; it may be overwritten.
        state
            The state, updated in place.
        lr
            Step size.
        """
        ...


optimizers: Registry[Callable[..., LocalOptimizer]] = Registry("optimizer", __package__)
