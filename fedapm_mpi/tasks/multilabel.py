"""Multilabel classification: which of k labels apply to a sample."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.tasks.base import (
    Floats,
    SampleTask,
    Targets,
    bound,
    check_finite,
    tasks,
)
from fedapm_mpi.tasks.classification import roc_areas


@tasks.register("multilabel")
@dataclass(frozen=True, kw_only=True)
class Multilabel(SampleTask):
    """Any number of k labels for each sample, each by a score of its own (logit).

    The loss is the binary cross-entropy, averaged over the labels of a sample.
    """

    balanced: bool = False
    """Whether a sample with a label counts as much in its loss as there are samples
    without for each with it, over all training samples; rare labels then count more."""

    positive_weight: tuple[float, ...] = field(default=(), init=False)
    """Of each label, if balanced."""

    target_kind = "binary"
    outputs = "scores"
    expects = "label scores, a floating Tensor (n, labels)"
    higher_is_better: ClassVar[Mapping[str, bool]] = {
        "f1": True,
        "accuracy": True,
        "exact_match": True,
        "auroc": True,
    }
    partial = ("auroc",)
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {"f1": (0.0, 1.0)}

    def for_targets(self, targets: Targets) -> "Multilabel":
        """Return the task with the labels' weights, if they are balanced.

        Raises
        ------
        ConfigError
            If a label that needs a weight applies to no training sample.
        """
        if not self.balanced:
            return self
        for name, share in zip(targets.names, targets.mean, strict=True):
            if share == 0:
                msg = f"balanced: no training sample has the label {name!r}"
                raise ConfigError(msg)
        weights = tuple((1 - share) / share for share in targets.mean)
        return bound(self, positive_weight=weights)

    def output_size(self, num_classes: int) -> int:
        """Return one score for each label, k."""
        return num_classes

    def sample_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample, (n,)."""
        weight = None
        if self.positive_weight:
            weight = outputs.new_tensor(self.positive_weight)
        return binary_cross_entropy_with_logits(
            outputs, targets.to(outputs.dtype), pos_weight=weight, reduction="none"
        ).mean(dim=1)

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the labels' probabilities, (n, k)."""
        return outputs.sigmoid()

    def metrics(self, predictions: Floats, targets: Floats) -> Mapping[str, float]:
        """Return what `multilabel_metrics` does."""
        check_finite(predictions)
        return multilabel_metrics(predictions, targets)


def multilabel_metrics(probabilities: Floats, targets: Floats) -> dict[str, float]:
    """Score the probabilities of labels; one from 0.5 on is predicted.

    ``f1`` is over all decisions together (micro; 0 where no label is there or
    predicted), ``accuracy`` the share of right decisions, ``exact_match`` that of
    samples all of whose labels are right, and ``auroc`` the area under the ROC curve,
    averaged over the labels that some samples have and some have not; undefined (NaN)
    if there is none.

    Parameters
    ----------
    probabilities, targets : (n, k)
        n is at least 1; targets are 0 or 1.
    """
    wanted, found = np.asarray(targets) > 0.5, np.asarray(probabilities) >= 0.5
    right = wanted == found
    hits, total = int((wanted & found).sum()), int(wanted.sum() + found.sum())
    known = wanted.any(axis=0) & ~wanted.all(axis=0)
    areas = roc_areas(probabilities[:, known], wanted[:, known])
    return {
        "f1": 2 * hits / max(total, 1),
        "accuracy": float(right.mean()),
        "exact_match": float(right.all(axis=1).mean()),
        "auroc": float(areas.mean()) if len(areas) else float("nan"),
    }
