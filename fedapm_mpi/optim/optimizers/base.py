"""The interface of an optimizer that a client uses in its local phases."""

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor
from torch.optim import Optimizer

from fedapm_mpi.registry import Registry


class LocalOptimizer(Protocol):
    """A rule that turns gradients into steps on one block of a model.

    One instance serves all clients: what changes from step to step belongs in the
    state. Where a configuration says ``state: reset``, each local phase begins with a
    fresh state; with ``state: keep`` it is a part of the client's state.

    One may have an attribute `default_lr`, the step size of a configuration that gives
    none; without it, such a configuration is refused. And one, `elementwise`, that is
    true if `step` works on each number by itself: it is then given the blocks of
    several clients as rows, (clients, d), with gradients and state likewise.
    """

    def init(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the state before the first step on a block.

        Parameters
        ----------
        vector : (d,)
            The block, not to be changed.

        Returns
        -------
        dict of Tensor
            Tensors of any shape and dtype, on any device. `step` may add others, but
            only in the first step.
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


class _Optimizers(Registry[Callable[..., LocalOptimizer]]):
    """Local optimizers; ``module:name`` may also be a class of torch's kind."""

    def get(self, name: str) -> Callable[..., LocalOptimizer]:
        found: Any = super().get(name)
        if inspect.isclass(found) and issubclass(found, Optimizer):
            from fedapm_mpi.optim.optimizers._torch import from_torch

            return from_torch(found)
        factory: Callable[..., LocalOptimizer] = found
        return factory


optimizers = _Optimizers("optimizer", __package__)
