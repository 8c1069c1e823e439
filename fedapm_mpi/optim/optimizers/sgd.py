"""SGD, plain or with momentum, as in torch.optim."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from fedapm_mpi.optim.optimizers._torch import TorchOptimizer
from fedapm_mpi.optim.optimizers.base import optimizers
from fedapm_mpi.utils.types import NonNegativeFloat

PLAIN_LR = 0.3
"""Step size of plain SGD where a configuration gives none."""


@optimizers.register("sgd")
@dataclass(frozen=True)
class SGD:
    r"""Steps along the negative gradient, or along its running sum.

    A step is :math:`w \leftarrow w - \eta g`. With momentum :math:`\beta` and dampening
    d, :math:`m \leftarrow \beta m + (1-d) g`, which is g in the first step, takes the
    gradient's place; with Nesterov's form it is :math:`g + \beta m`.
    """

    momentum: NonNegativeFloat = 0.0
    r"""Decay :math:`\beta` of the running sum; 0 keeps none."""

    dampening: NonNegativeFloat = 0.0
    """Part d of each gradient that the running sum leaves out."""

    nesterov: bool = False
    """Whether to look ahead along the running sum; needs momentum and no dampening."""

    def __post_init__(self) -> None:
        if not self.momentum and (self.dampening or self.nesterov):
            msg = "dampening and nesterov have no effect without momentum; leave out"
            raise ValueError(msg)
        if self.nesterov and self.dampening:
            msg = "nesterov needs dampening 0"
            raise ValueError(msg)

    elementwise: ClassVar[bool] = True

    @cached_property
    def _with_momentum(self) -> TorchOptimizer:
        options = {
            "momentum": self.momentum,
            "dampening": self.dampening,
            "nesterov": self.nesterov,
        }
        return TorchOptimizer(torch.optim.SGD, options)

    @property
    def default_lr(self) -> float:
        """Return the step size of a configuration that gives none.

        A running sum is up to 1/(1 - momentum) times as long as a gradient.
        """
        return PLAIN_LR * max(1 - self.momentum, 0.01)

    def init(self, vector: Tensor) -> dict[str, Tensor]:
        """Return an empty state; the running sum begins in the first step."""
        return {}

    def step(
        self, vector: Tensor, gradient: Tensor, state: dict[str, Tensor], lr: float
    ) -> None:
        """Update the block, (d,), in place."""
        if self.momentum:
            self._with_momentum.step(vector, gradient, state, lr)
        else:
            vector.sub_(gradient, alpha=lr)
