"""A task of your own: labels as numbers, fitted by least squares.

    fedapm train examples/sensors.yaml task=./examples/my_task.py:Regression \
        model=./examples/my_model.py:net

A task has the loss, the predictions and the metrics. Models then have one output. Where
labels have an order (still, walking, running), an error of two counts more than of one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor
from torch.nn.functional import huber_loss, mse_loss

from fedapm_mpi.tasks.base import Task


@dataclass(frozen=True, kw_only=True)
class Regression(Task):
    """The label as a number, from one output."""

    robust: bool = False
    """Whether the loss is Huber's instead of the squared error."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {"mae": False, "exact": True}
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {"exact": (0.0, 1.0)}

    def output_size(self, num_classes: int) -> int:
        """Return 1, whatever the number of classes."""
        return 1

    def loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> Tensor:
        """Return the error of outputs (n, 1) for targets (n,)."""
        error = huber_loss if self.robust else mse_loss
        return error(outputs[:, 0], targets.to(outputs.dtype), reduction=reduction)

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the outputs (n, 1) as they are."""
        return outputs

    def metrics(
        self, predictions: np.ndarray[Any, Any], targets: np.ndarray[Any, Any]
    ) -> Mapping[str, float]:
        """Return the mean absolute error, and the share that rounds to the label."""
        errors = np.abs(predictions[:, 0] - targets)
        return {"mae": float(errors.mean()), "exact": float((errors < 0.5).mean())}
