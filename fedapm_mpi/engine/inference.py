"""Evaluation of clients' models on their own test parts."""

from math import isfinite
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.local_objective import EVALUATION_CHUNK, scores
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.tasks.classification import client_metrics

CACHE_BYTES = 2**20
"""Bytes of inputs in a pass, so that what layers make of them stays near the core."""

MIN_CHUNK = 50


class ClientEvaluation(NamedTuple):
    """One client's result on its test part; all NaN but `samples` where it has none."""

    samples: int
    loss: float
    """Mean cross-entropy per sample."""

    accuracy: float
    f1: float
    """Weighted by the support of each class."""

    auroc: float
    """One-vs-rest, mean over the classes present; NaN with a single class."""

    auroc_absent_zero: float
    """The paper's rule: classes without a test sample count 0."""


@torch.inference_mode()
def probabilities(
    model: PartitionedModel, samples: Samples
) -> tuple[float, torch.Tensor]:
    """Return the summed loss and the class probabilities (n, K) of the live model."""
    model.module.eval()
    loss, parts = 0.0, []
    for piece in samples.pieces(_piece(samples)):
        logits = scores(model.module, piece)
        loss += float(
            nn.functional.cross_entropy(logits.double(), piece.labels, reduction="sum")
        )
        parts.append(logits.double().softmax(dim=1).float())
    return loss, torch.cat(parts).cpu()


@torch.inference_mode()
def mean_loss(model: PartitionedModel, samples: Samples) -> float:
    """Return the live model's mean cross-entropy, 0 where there is no sample."""
    n = len(samples.labels)
    model.module.eval()
    total = 0.0
    for piece in samples.pieces(_piece(samples)):
        logits = scores(model.module, piece).double()
        total += float(
            nn.functional.cross_entropy(logits, piece.labels, reduction="sum")
        )
    return total / n if n else 0.0


def evaluate(
    model: PartitionedModel, samples: Samples, num_classes: int
) -> tuple[ClientEvaluation, NDArray[np.float32]]:
    """Evaluate the live model on one client's test samples.

    Returns
    -------
    Evaluated
        The figures.
    (n, K) array
        Class probabilities, for figures pooled over clients.
    """
    n = len(samples.labels)
    if n == 0:
        nan = float("nan")
        empty = np.zeros((0, num_classes), dtype=np.float32)
        return ClientEvaluation(0, nan, nan, nan, nan, nan), empty
    loss, found = probabilities(model, samples)
    if not isfinite(loss):
        nan = float("nan")
        return ClientEvaluation(n, loss, nan, nan, nan, nan), found.numpy()
    figures = client_metrics(found.numpy(), samples.labels.cpu().numpy())
    return ClientEvaluation(n, loss / n, *figures), found.numpy()


def _piece(samples: Samples) -> int:
    """Return how many samples to take in a pass, by their shape and where they are."""
    if samples.labels.is_cuda:
        return EVALUATION_CHUNK
    each = sum(x[:1].numel() * x.element_size() for x in samples.inputs)
    return max(MIN_CHUNK, min(EVALUATION_CHUNK, CACHE_BYTES // max(1, each)))
