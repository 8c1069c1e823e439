"""Class scores, taken from what a model returns."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from fedapm_mpi.errors import TrainingError
from fedapm_mpi.utils.text import one_line

EXPECTED = (
    "it must return class scores, a floating Tensor (n, classes), or an object or "
    "mapping that holds them as logits"
)
"""What a model must return, for messages."""


def logits_of(found: Any) -> Tensor:
    """Return the class scores in what a model returned.

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
    msg = f"the model returned {describe_output(found)}; {EXPECTED}"
    if logits is not None:
        msg = (
            f"the model returned logits that are {describe_output(logits)}; {EXPECTED}"
        )
    raise TrainingError(msg)


def checked_scores(found: Any, samples: int) -> Tensor:
    """Return the class scores (n, classes) in what a model returned for `samples`.

    Raises
    ------
    TrainingError
        If there are none, or they are not one row for each sample.
    """
    logits = logits_of(found)
    if logits.ndim != 2 or logits.shape[0] != samples:
        msg = (
            f"the model returned scores of shape {tuple(logits.shape)} for {samples} "
            f"sample(s); it must be ({samples}, classes), one row for each sample"
        )
        raise TrainingError(msg)
    return logits


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
