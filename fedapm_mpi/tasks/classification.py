"""Classification: cross-entropy, accuracy, F1 and area under the ROC curve."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Lt
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedapm_mpi.errors import ConfigError, DataError, TrainingError
from fedapm_mpi.tasks.base import (
    Floats,
    Labels,
    Targets,
    Task,
    bound,
    check_classes,
    tasks,
)
from fedapm_mpi.utils.text import format_some

NonNegative = Annotated[float, Ge(0)]

MIN_SAMPLES = 10
"""Evaluated samples, or clients, below which equal predictions may be chance."""


class ClientMetrics(NamedTuple):
    """Scores of one model on one set of samples; NaN where undefined.

    All four are undefined on an empty set.
    """

    accuracy: float
    """Share of samples whose most probable class is the label."""

    f1: float
    """F1 of each class, averaged with the number of its samples as weight."""

    auroc: float
    """Area under the ROC curve, each class against the rest, averaged over the
    classes among the labels; undefined if there is only one."""

    auroc_absent_zero: float
    """The same by the rule of the FedAPM paper (arXiv 2506.04672): the average is
    over all classes, absent ones count as 0, and it is 0 for a single label."""


@tasks.register("classification")
@dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """One class for each sample, by the largest of K scores (logits).

    A task with another loss or other metrics is best derived from it: the inherited
    methods need nothing but scores (n, K) and labels in [0, K).
    """

    class_weights: Literal["balanced"] | tuple[NonNegative, ...] | None = None
    """Weight of each class in the loss, by its number; ``balanced`` is N / (K n_k) for
    a class of n_k of all N training samples. The loss of a batch is the sum of weighted
    losses over the number of samples, so that it adds up over batches and clients."""

    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Part of the label that is spread evenly over all classes."""

    focal: NonNegative = 0.0
    r"""Exponent :math:`\gamma` of the focal loss, :math:`(1 - p)^\gamma` times the
    loss of a sample whose class has the probability p (Lin et al., ICCV 2017); 0 is the
    plain loss."""

    weights: tuple[float, ...] = field(default=(), init=False)
    """What `class_weights` comes to."""

    outputs = "scores"
    expects = "class scores, a floating Tensor (n, classes)"
    higher_is_better: ClassVar[Mapping[str, bool]] = dict.fromkeys(
        ClientMetrics._fields, True
    )
    displayed = ("accuracy", "f1", "auroc", "loss")
    partial = ("auroc",)
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {"accuracy": (0.0, 1.0)}
    client_counts = ("predicted_classes", "label_classes")
    statistics = ("clients_with_classes", "one_class_clients", "one_class_most_samples")
    graph_safe = True

    def output_size(self, num_classes: int) -> int:
        """Return one score for each class, K.

        Raises
        ------
        ConfigError
            If there are fewer than two classes.
        """
        check_classes("classification", num_classes)
        return num_classes

    def __post_init__(self) -> None:
        if self.focal and self.label_smoothing:
            msg = "focal is of one class for each sample; leave label_smoothing out"
            raise ValueError(msg)

    def for_targets(self, targets: Targets) -> "Classification":
        """Return the task with the weights of a data set's classes.

        Raises
        ------
        ConfigError
            If there are not as many weights as classes, all are zero, or they are
            balanced and a class has no training sample.
        """
        given, size = self.class_weights, targets.size
        if given is None:
            return self
        if given == "balanced":
            for name, count in zip(targets.names, targets.counts, strict=True):
                if not count:
                    msg = f"class_weights: no training sample is of class {name!r}"
                    raise ConfigError(msg)
            total = sum(targets.counts)
            given = tuple(total / (size * count) for count in targets.counts)
        if len(given) != size or not any(given):
            msg = (
                f"class_weights has {len(given)} weights for {size} classes "
                f"({format_some(targets.names)}); give one for each, not all zero"
            )
            raise ConfigError(msg)
        # A captured graph would hold the weights' copy to the device.
        return bound(self, weights=tuple(map(float, given)), graph_safe=False)

    def loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> Tensor:
        """Return the cross-entropy of scores (n, K) and labels (n,)."""
        if self.weights or self.focal:
            losses = self.sample_losses(outputs, targets)
            return losses.sum() if reduction == "sum" else losses.mean()
        return cross_entropy(
            outputs,
            targets,
            reduction=reduction,
            label_smoothing=self.label_smoothing,
        )

    def sample_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample, (n,)."""
        losses = cross_entropy(
            outputs,
            targets,
            weight=outputs.new_tensor(self.weights) if self.weights else None,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        if self.focal:
            scores = outputs.log_softmax(dim=1).gather(1, targets[:, None])[:, 0]
            # Not 0, where a root has no slope.
            least = torch.finfo(losses.dtype).eps
            losses = losses * (-scores.expm1()).clamp(min=least) ** self.focal
        return losses

    def predict(self, outputs: Tensor) -> Tensor:
        """Return class probabilities, (n, K)."""
        return outputs.softmax(dim=1)

    def metrics(self, predictions: Floats, targets: Labels) -> Mapping[str, float]:
        """Return the fields of `ClientMetrics`."""
        return client_metrics(predictions, targets)._asdict()

    def counts(self, predictions: Floats, targets: Labels) -> tuple[int, int]:
        """Return the numbers of different classes among predictions and labels."""
        predicted = predictions.argmax(axis=1)
        return len(np.unique(predicted)), len(np.unique(targets))

    def record_statistics(self, samples: Floats, counts: Floats) -> dict[str, int]:
        """Count the clients whose model predicts one class for samples of several."""
        predicted, present = counts.T
        constant = (predicted == 1) & (present > 1)
        return {
            "clients_with_classes": int((present > 1).sum()),
            "one_class_clients": int(constant.sum()),
            "one_class_most_samples": int(samples[constant].max(initial=0)),
        }

    def remarks(self, summary: Mapping[str, Any]) -> list[str]:
        """Report models that predict the same class for every sample."""
        one, of = summary.get("one_class_clients"), summary.get("clients_with_classes")
        most = summary.get("one_class_most_samples", MIN_SAMPLES)
        if not one or not of:
            return []
        if most < MIN_SAMPLES and (one < MIN_SAMPLES or 2 * one < of):
            return []
        hint = "; inputs may be unscaled (see shift=standardise)" * (2 * one >= of)
        return [
            f"the models of {one:,} of {of:,} clients predict the same class for every "
            f"evaluated sample, though these clients have samples of several classes"
            f"{hint}"
        ]


def client_metrics(probabilities: Floats, labels: Labels) -> ClientMetrics:
    """Score the class probabilities of a set of samples.

    Parameters
    ----------
    probabilities
        ``(n, K)``; of the most probable classes, the first is the prediction.
    labels
        ``(n,)`` integers in [0, K).

    Raises
    ------
    DataError
        If the shapes do not match or a label is out of range.
    TrainingError
        If a probability is not finite.
    """
    _check(probabilities, labels)
    if not len(labels):
        return ClientMetrics(np.nan, np.nan, np.nan, np.nan)
    num_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    counts = confusion(predicted, labels, num_classes)
    support = counts.sum(axis=1)
    present = np.flatnonzero(support)
    accuracy = float(np.trace(counts) / len(labels))
    f1 = float(np.dot(class_f1(counts), support) / len(labels))
    if len(present) == 1:
        return ClientMetrics(accuracy, f1, np.nan, 0.0)
    areas = roc_areas(probabilities[:, present], labels[:, None] == present)
    return ClientMetrics(
        accuracy, f1, float(areas.mean()), float(areas.sum() / num_classes)
    )


def class_f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the F1 score of each class, (K,), from a confusion matrix (K, K).

    A class that is neither among the labels nor predicted has 0.
    """
    hits = np.diagonal(counts)
    total = counts.sum(axis=0) + counts.sum(axis=1)
    scores: NDArray[np.float64] = 2 * hits / np.maximum(total, 1)
    return scores


def roc_areas(scores: Floats, positive: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the area under each column's ROC curve, (c,).

    The area is the chance that a positive sample scores above a negative one, ties
    counting half: the rank-sum statistic of Mann and Whitney (1947), over its largest
    value.

    Parameters
    ----------
    scores : (n, c)
        A higher score speaks for the column's class.
    positive : (n, c)
        Which samples are of the class; each column has some that are and some not.
    """
    areas = np.empty(scores.shape[1])
    for k, (column, own) in enumerate(zip(scores.T, positive.T, strict=True)):
        ordered, among = np.sort(column), column[own]
        below = np.searchsorted(ordered, among, "left")
        upto = np.searchsorted(ordered, among, "right")
        positives, negatives = len(among), len(column) - len(among)
        # Ranks count from 1; equal scores have the mean of theirs.
        ranks = (below + upto + 1) / 2
        wins = ranks.sum() - positives * (positives + 1) / 2
        areas[k] = wins / (positives * negatives)
    return areas


def confusion(predicted: Labels, labels: Labels, num_classes: int) -> NDArray[np.int64]:
    """Count samples by label and prediction.

    Parameters
    ----------
    predicted, labels
        ``(n,)`` integers in [0, K).
    num_classes
        The number K of classes.

    Returns
    -------
    NDArray
        int64 ``(K, K)``; rows are labels, columns are predictions. Matrices of
        clients add up to that of all.
    """
    cells = np.asarray(labels, dtype=np.int64) * num_classes + predicted
    counts = np.bincount(cells, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64, copy=False)


def _check(probabilities: Floats, labels: Labels) -> None:
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        msg = (
            f"probabilities of shape {probabilities.shape} do not fit labels of "
            f"shape {labels.shape}; needed are (n, K) and (n,)"
        )
        raise DataError(msg)
    num_classes = probabilities.shape[1]
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        msg = (
            f"labels run from {labels.min()} to {labels.max()}, but there are "
            f"{num_classes} classes, so they must be in [0, {num_classes}); "
            "prepare the data set again"
        )
        raise DataError(msg)
    if not np.isfinite(probabilities).all():
        msg = (
            "some predicted probabilities are not finite, so training has diverged; "
            "lower the learning rates, or the penalty if it is large"
        )
        raise TrainingError(msg)
