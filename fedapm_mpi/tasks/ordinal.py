"""Ordinal classification: classes in an order, such as grades."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from fedapm_mpi.tasks.base import (
    Floats,
    Labels,
    SampleTask,
    check_classes,
    check_finite,
    tasks,
)
from fedapm_mpi.tasks.classification import confusion


@tasks.register("ordinal")
@dataclass(frozen=True, kw_only=True)
class Ordinal(SampleTask):
    r"""One of K ordered classes, by K - 1 scores: whether it is above class k.

    The loss is the binary cross-entropy of the K - 1 answers, averaged; the predicted
    class is the number of answers that are more likely yes than no. An error of two
    classes counts more than one of one, in the loss and in ``mae`` and ``kappa``.

    Reference: Frank and Hall, "A simple approach to ordinal classification", ECML 2001,
    with one model for all answers.
    """

    outputs = "scores"
    expects = "threshold scores, a floating Tensor (n, classes - 1)"
    higher_is_better: ClassVar[Mapping[str, bool]] = {
        "mae": False,
        "accuracy": True,
        "kappa": True,
    }
    partial = ("kappa",)
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {"accuracy": (0.0, 1.0)}

    def output_size(self, num_classes: int) -> int:
        """Return one score for each class but the last, K - 1.

        Raises
        ------
        ConfigError
            If there are fewer than two classes.
        """
        check_classes("ordinal", num_classes)
        return num_classes - 1

    def sample_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample, (n,)."""
        thresholds = torch.arange(outputs.shape[1], device=outputs.device)
        above = (targets[:, None] > thresholds).to(outputs.dtype)
        return binary_cross_entropy_with_logits(outputs, above, reduction="none").mean(
            dim=1
        )

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the probabilities of being above each class, (n, K - 1)."""
        return outputs.sigmoid()

    def metric_pair(
        self, predictions: Floats, targets: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the predicted classes, and the labels, both (n,)."""
        above: Labels = (predictions > 0.5).sum(axis=1)
        return above, targets

    def metrics(self, predictions: Floats, targets: Labels) -> Mapping[str, float]:
        """Return what `ordinal_metrics` does of the predicted classes."""
        check_finite(predictions)
        above, labels = self.metric_pair(predictions, targets)
        return ordinal_metrics(above, labels, predictions.shape[1] + 1)


def ordinal_metrics(
    predicted: Labels, labels: Labels, num_classes: int
) -> dict[str, float]:
    """Score predicted classes that have an order.

    ``mae`` is the mean number of classes between prediction and label; ``kappa`` is
    Cohen's, with squared distances as weights (1 for no error, 0 for what chance would
    give), undefined (NaN) where all labels and predictions are one class.

    Parameters
    ----------
    predicted, labels : (n,)
        Integers in [0, K); n is at least 1.
    num_classes
        The number K of classes.
    """
    counts = confusion(predicted, labels, num_classes)
    places = np.arange(num_classes)
    weights = np.square(places[:, None] - places)
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / len(labels)
    chance = float((weights * expected).sum())
    observed = float((weights * counts).sum())
    return {
        "mae": float(np.abs(predicted - labels).mean()),
        "accuracy": float(np.trace(counts) / len(labels)),
        "kappa": 1 - observed / chance if chance > 0 else float("nan"),
    }
