"""How well a model does on a client, and how that spreads over clients."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.errors import DataError, TrainingError

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


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


class Summary(NamedTuple):
    """Spread of a value over clients; all are NaN if no client has one."""

    mean: float
    """Mean over the clients, each with the same weight."""

    std: float
    """Population standard deviation; 0 for one client."""

    worst_decile: float
    """Mean over the worst tenth of the clients, rounded up to whole clients."""


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


def summarize(values: Floats, *, lower_is_worse: bool = True) -> Summary:
    """Summarise a value over clients.

    Parameters
    ----------
    values
        ``(m,)``, one per client; NaN for a client where it is undefined, which is
        left out.
    lower_is_worse
        Whether the worst clients have the lowest values, as for an accuracy, or the
        highest, as for a loss.
    """
    known = np.asarray(values, dtype=np.float64)
    known = np.sort(known[~np.isnan(known)])
    if not len(known):
        return Summary(np.nan, np.nan, np.nan)
    tenth = worst_decile_size(len(known))
    worst = known[:tenth] if lower_is_worse else known[-tenth:]
    return Summary(float(known.mean()), float(known.std()), float(worst.mean()))


def worst_decile_size(clients: int) -> int:
    """Return how many of so many clients are in the worst decile."""
    return -(-clients // 10)


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
