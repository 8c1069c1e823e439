"""A model's outputs, taken from what it returns."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from fedapm_mpi.errors import TrainingError
from fedapm_mpi.tasks import Task
from fedapm_mpi.utils.text import one_line


def expected(task: Task) -> str:
    """Return what a model must return, for messages."""
    return (
        f"it must return {task.expects}, or an object or mapping that holds them as "
        "logits"
    )


def logits_of(found: Any, task: Task) -> Tensor:
    """Return the tensor of outputs in what a model returned.

    A tensor is taken as it is; of an object the attribute ``logits`` is taken, of a
    mapping the item ``"logits"``.

    Raises
    ------
    TrainingError
        If there are none; the message says what the model returned instead.
    """
    if isinstance(found, Tensor):
        return found
    logits = getattr(found, "logits", None)
    if logits is None and isinstance(found, Mapping):
        logits = found.get("logits")
    if isinstance(logits, Tensor):
        return logits
    msg = f"the model returned {describe_output(found)}; {expected(task)}"
    if logits is not None:
        described = describe_output(logits)
        msg = f"the model returned logits that are {described}; {expected(task)}"
    raise TrainingError(msg)


def checked_outputs(found: Any, samples: int, task: Task) -> Tensor:
    """Return the outputs (n, outputs) in what a model returned for `samples` samples.

    Raises
    ------
    TrainingError
        If there are none, or the task cannot use their shape.
    """
    outputs = logits_of(found, task)
    fault = task.check_outputs(outputs.shape, samples)
    if fault:
        msg = f"the model returned {fault}"
        raise TrainingError(msg)
    return outputs


def describe_output(value: Any) -> str:
    """Return what a value is, with article: ``a tuple of (Tensor (2, 3), None)``."""
    text = _kind(value)
    if value is not None:
        text = f"{'an' if text[0] in 'aeiouAEIOU' else 'a'} {text}"
    return one_line(text)


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, Tensor | np.ndarray):
        kind = "Tensor" if isinstance(value, Tensor) else "NumPy array"
        return f"{kind} {tuple(value.shape)}"
    name = type(value).__name__
    if isinstance(value, Mapping):
        keys = ", ".join(repr(key) for key in list(value)[:10])
        return f"{name} with the keys {keys}" if keys else f"{name} without keys"
    if isinstance(value, tuple | list):
        inside = ", ".join(_kind(item) for item in value[:10])
        return f"{name} of ({inside})" if value else f"{name} of nothing"
    return name
