r"""Clip a client's update to a norm.

The change :math:`\Delta` of the model's rows becomes
:math:`\Delta \min(1, C / \|\Delta\|_2)`, which bounds what any one client adds to the
sum. Changes of buffers and of the dual stay as they are.

McMahan et al., Learning Differentially Private Recurrent Language Models, ICLR 2018,
algorithm 1, FlatClip.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from torch import Tensor

from fedapm_mpi.aggregators.base import Update
from fedapm_mpi.aggregators.transforms.base import (
    UpdateContext,
    UpdateTransform,
    transforms,
)


@transforms.register("clip")
@dataclass(frozen=True)
class Clip(UpdateTransform):
    """Scale the change of the model down to a norm, if it has a larger one."""

    max_norm: float
    """Largest Euclidean norm C of a client's change of the model, above 0."""

    def __post_init__(self) -> None:
        if not self.max_norm > 0:
            msg = f"max_norm must be positive, got {self.max_norm}"
            raise ValueError(msg)

    def encode(
        self, update: Update, state: dict[str, Tensor], context: UpdateContext
    ) -> Update:
        """See `UpdateTransform.encode`."""
        model = update[: context.model_length]
        norm = sqrt(float(np.dot(model, model)))
        if norm > self.max_norm:
            model *= self.max_norm / norm
        return update
