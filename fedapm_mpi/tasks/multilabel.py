"""Multilabel classification: which of k labels apply to a sample."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.tasks.base import (
    Floats,
    SampleTask,
    Targets,
    bound,
    check_finite,
    mean_of_known,
    tasks,
)
from fedapm_mpi.tasks.classification import roc_areas


@tasks.register("multilabel")
@dataclass(frozen=True, kw_only=True)
class Multilabel(SampleTask):
    """Any number of k labels for each sample, each by a score of its own (logit).

    The loss is the binary cross-entropy, averaged over the labels of a sample, of which
    some may be unknown.
    """

    balanced: bool = False
    """Whether a sample with a label counts as much in its loss as there are samples
    without for each with it, over all training samples; rare labels then count more."""

    positive_weight: tuple[float, ...] = field(default=(), init=False)
    """Of each label, if balanced."""

    incomplete: bool = field(default=False, init=False)
    """Whether labels of samples may be unknown."""

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
    takes_incomplete = True
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {"f1": (0.0, 1.0)}

    def for_targets(self, targets: Targets) -> "Multilabel":
        """Return the task with the labels' weights, if they are balanced.

        Raises
        ------
        ConfigError
            If a label that needs a weight applies to no training sample.
        """
        made = bound(self, incomplete=targets.incomplete)
        if not self.balanced:
            return made
        for name, share in zip(targets.names, targets.mean, strict=True):
            if share == 0:
                msg = f"balanced: no training sample has the label {name!r}"
                raise ConfigError(msg)
        weights = tuple((1 - share) / share for share in targets.mean)
        return bound(made, positive_weight=weights)

    def output_size(self, num_classes: int) -> int:
        """Return one score for each label, k."""
        return num_classes

    def sample_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample, (n,)."""
        weight = None
        if self.positive_weight:
            weight = outputs.new_tensor(self.positive_weight)
        wanted = targets.to(outputs.dtype)
        known = ~wanted.isnan() if self.incomplete else None
        losses = binary_cross_entropy_with_logits(
            outputs,
            wanted if known is None else wanted.nan_to_num(0.0),
            pos_weight=weight,
            reduction="none",
        )
        return losses.mean(dim=1) if known is None else mean_of_known(losses, known)

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
    if there is none. Unknown labels (NaN) do not count.

    Parameters
    ----------
    probabilities, targets : (n, k)
        n is at least 1; targets are 0, 1 or NaN.
    """
    sure = ~np.isnan(targets)
    if not sure.all():
        return _metrics_of_known(probabilities, targets, sure)
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


def _metrics_of_known(
    probabilities: Floats, targets: Floats, known: NDArray[np.bool_]
) -> dict[str, float]:
    """Return the same where some labels of samples are unknown."""
    wanted, found = targets > 0.5, probabilities >= 0.5
    right = (wanted == found) | ~known
    hits = int((wanted & found & known).sum())
    total = int((wanted & known).sum() + (found & known).sum())
    areas = [
        float(roc_areas(probabilities[rows, k : k + 1], wanted[rows, k : k + 1])[0])
        for k, rows in enumerate(known.T)
        if 0 < wanted[rows, k].sum() < rows.sum()
    ]
    return {
        "f1": 2 * hits / max(total, 1),
        "accuracy": float(right[known].mean()),
        "exact_match": float(right.all(axis=1).mean()),
        "auroc": float(np.mean(areas)) if areas else float("nan"),
    }
