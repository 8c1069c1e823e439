"""Evaluation of clients' models on their own samples."""

from collections.abc import Mapping
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.local_objective import EVALUATION_CHUNK, outputs_of
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.errors import TrainingError
from fedapm_mpi.tasks import LOSS, Task
from fedapm_mpi.tasks.base import Floats, weighted_loss

CACHE_BYTES = 2**20
"""Bytes of inputs in a pass, so that activations stay in the core's cache."""

MIN_CHUNK = 50
"""Samples in a pass at least, unless their outputs are many."""

OUTPUT_NUMBERS = 2**22
"""Numbers in the outputs of a pass, where a sample has many."""


class ClientEvaluation(NamedTuple):
    """One client's result on its samples of the evaluated split."""

    samples: int
    loss: float
    """Mean loss per sample; NaN without samples, and what is not finite as it is."""

    metrics: Mapping[str, float]
    """The task's metrics; all NaN where the loss is not finite."""


@torch.inference_mode()
def predictions(
    model: PartitionedModel, samples: Samples
) -> tuple[float, torch.Tensor]:
    """Return the summed loss of the live model, and its `Task.metric_inputs`."""
    model.module.eval()
    loss, parts = 0.0, []
    for chunk in samples.chunks(_chunk_size(samples, model.task)):
        outputs = outputs_of(model.module, chunk, model.task).double()
        loss += _summed_loss(model.task, outputs, chunk)
        parts.append(model.task.metric_inputs(outputs, chunk.targets).float())
    return loss, torch.cat(parts).cpu()


@torch.inference_mode()
def mean_loss(model: PartitionedModel, samples: Samples) -> float:
    """Return the live model's mean loss per sample, 0 where there is no sample."""
    n = len(samples.targets)
    model.module.eval()
    total = 0.0
    for chunk in samples.chunks(_chunk_size(samples, model.task)):
        outputs = outputs_of(model.module, chunk, model.task).double()
        total += _summed_loss(model.task, outputs, chunk)
    return total / n if n else 0.0


def _summed_loss(task: Task, outputs: torch.Tensor, chunk: Samples) -> float:
    return float(weighted_loss(task, outputs, chunk.targets, chunk.weights, "sum"))


def evaluate(
    model: PartitionedModel, samples: Samples, size: int
) -> tuple[ClientEvaluation, NDArray[np.float32]]:
    """Evaluate the live model on one client's samples.

    Parameters
    ----------
    model, samples
        The model, and what it is evaluated on.
    size
        Classes of the data set, or targets of a sample.

    Returns
    -------
    ClientEvaluation
        The loss and the metrics.
    (n, metric inputs) array
        What metrics are computed from, for those pooled over clients.
    """
    task, n = model.task, len(samples.targets)
    names = [name for name in task.metric_set().names if name != LOSS]
    undefined = dict.fromkeys(names, float("nan"))
    if n == 0:
        empty = np.zeros((0, task.metric_input_size(size)), dtype=np.float32)
        return ClientEvaluation(0, float("nan"), undefined), empty
    loss, tensor = predictions(model, samples)
    predicted: NDArray[np.float32] = tensor.numpy()
    if not isfinite(loss):
        return ClientEvaluation(n, loss, undefined), predicted
    metrics = measure(task, predicted, metric_targets(task, samples.targets))
    return ClientEvaluation(n, loss / n, metrics), predicted


def metric_targets(task: Task, targets: torch.Tensor) -> NDArray[Any]:
    """Return the targets that metrics are given: all but dense ones; see `Targets`."""
    if task.target_kind == "dense":
        return np.empty((len(targets), 0), dtype=np.int64)
    found: NDArray[Any] = targets.cpu().numpy()
    return found


def measure(task: Task, predictions: Floats, targets: NDArray[Any]) -> dict[str, float]:
    """Return a task's metrics in the order in which it names them.

    Raises
    ------
    TrainingError
        If it gives others than it names, or one that is no number.
    """
    found = task.metrics(predictions, targets)
    if set(found) != set(task.higher_is_better):
        msg = (
            f"{type(task).__name__}.metrics gave {sorted(found)}, but "
            f"higher_is_better names {sorted(task.higher_is_better)}; both must be "
            "the same"
        )
        raise TrainingError(msg)
    added: dict[str, float] = {}
    if task.added:
        pair = task.metric_pair(predictions, targets)
        added = {metric.label: metric.compute(*pair) for metric in task.added}
    try:
        own = {name: float(found[name]) for name in task.higher_is_better}
        return own | {label: float(value) for label, value in added.items()}
    except (TypeError, ValueError) as error:
        name = type(task).__name__
        msg = f"{name}.metrics gave a value that is no number: {error}"
        raise TrainingError(msg) from error


def _chunk_size(samples: Samples, task: Task) -> int:
    """Return how many samples to take in a pass, by their shape and where they are."""
    most = EVALUATION_CHUNK
    if task.sample_outputs:
        most = max(1, min(most, OUTPUT_NUMBERS // task.sample_outputs))
    return min(most, _input_chunk_size(samples))


def _input_chunk_size(samples: Samples) -> int:
    if samples.targets.is_cuda:
        return EVALUATION_CHUNK
    each = sum(x[:1].numel() * x.element_size() for x in samples.inputs)
    return max(MIN_CHUNK, min(EVALUATION_CHUNK, CACHE_BYTES // max(1, each)))
