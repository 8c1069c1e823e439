"""Optimizers of torch.optim as local optimizers."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.optim import (
    ASGD,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
    Rprop,
)

from fedapm_mpi.optim.optimizers.base import LocalOptimizer

NOT_OPTIONS = (
    "params", "lr", "foreach", "maximize", "capturable", "differentiable", "fused",
)  # fmt: skip
"""Parameters of torch.optim's classes that are not options of a local optimizer.

Parameters and step sizes come from the algorithm, minimizing is the task, and the rest
chooses among implementations, whose last bits differ.
"""

SAME_BITS_BY_LISTS = (Adadelta, Adam, AdamW, Rprop)
"""Classes whose implementation for lists of tensors (``foreach``) has the bits of the
other one on the CPU, and makes fewer temporary tensors."""

ELEMENTWISE = (
    Adadelta, Adagrad, Adam, Adamax, AdamW, ASGD, NAdam, RAdam, RMSprop, Rprop, SGD,
)  # fmt: skip
"""Classes that step each number by itself."""

LONG = 65_536
"""Entries of a vector from which on that is faster: threefold for Adam, as the C
library returns large temporaries to the system and fetches them again in each step."""


class TorchOptimizer:
    """A class of torch.optim, or one that inherits from its `Optimizer`.

    Parameters
    ----------
    kind
        The class.
    options
        Its keyword arguments without `lr`.
    default_lr
        See `from_torch`.

    Raises
    ------
    ValueError
        If it cannot step on a flat vector, or needs a closure.
    """

    default_lr: float | None

    def __init__(
        self,
        kind: type[Optimizer],
        options: dict[str, Any],
        default_lr: float | None = None,
    ) -> None:
        self.default_lr = default_lr
        self.elementwise = kind in ELEMENTWISE
        self._kind = kind
        self._options = options
        self._check()
        self._optimizer = self._make(torch.zeros(1))

    def init(self, vector: Tensor) -> dict[str, Tensor]:
        """Return what the class's constructor sets up; most do so in the first step."""
        return dict(self._make(vector).state.get(vector, {}))

    def step(
        self, vector: Tensor, gradient: Tensor, state: dict[str, Tensor], lr: float
    ) -> None:
        """Take the class's step on the block, (d,), in place."""
        optimizer, (group,) = self._optimizer, self._optimizer.param_groups
        group["params"], group["lr"] = [vector], lr
        if self._kind in SAME_BITS_BY_LISTS:
            by_lists = len(vector) >= LONG and vector.device.type == "cpu"
            group["foreach"] = True if by_lists else None
        optimizer.state.clear()
        optimizer.state[vector] = state
        vector.grad = gradient
        try:
            optimizer.step()
        finally:
            vector.grad = None

    def _make(self, vector: Tensor) -> Optimizer:
        kind: Callable[..., Optimizer] = self._kind
        return kind([vector], lr=1.0, **self._options)

    def _check(self) -> None:
        """Raise `ValueError` unless the class can do what is asked of it."""
        name = self._kind.__name__
        closure = inspect.signature(self._kind.step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            msg = f"{name} needs a closure, which a local step on one batch has not"
            raise ValueError(msg)
        vector = torch.zeros(2)
        optimizer = self._make(vector)
        vector.grad = torch.zeros(2)
        try:
            optimizer.step()
        except Exception as error:
            msg = f"{name} cannot step on a flat vector: {error}"
            raise ValueError(msg) from error


def from_torch(
    kind: type[Optimizer], default_lr: float | None = None
) -> Callable[..., LocalOptimizer]:
    """Return the factory of a local optimizer from a class of torch.optim.

    Its options are those of the class's constructor, with their defaults, without
    `NOT_OPTIONS`.

    Parameters
    ----------
    kind
        The class.
    default_lr
        Step size of a configuration that gives none; `None` if none is known.
    """
    signature = inspect.signature(kind)
    options = [
        parameter.replace(
            kind=inspect.Parameter.KEYWORD_ONLY, annotation=_hint(parameter)
        )
        for parameter in signature.parameters.values()
        if parameter.name not in NOT_OPTIONS
        and parameter.kind is not inspect.Parameter.VAR_POSITIONAL
        and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]

    @wraps(kind, assigned=("__module__", "__name__", "__qualname__"), updated=())
    def make(**given: Any) -> LocalOptimizer:
        return TorchOptimizer(kind, given, default_lr)

    del make.__wrapped__
    make.__doc__ = f"Return torch.optim's {kind.__name__} as a local optimizer."
    make.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    make.__annotations__ = {p.name: p.annotation for p in options}
    return make


def _hint(parameter: inspect.Parameter) -> Any:
    """Return a type of plain values for an option; torch's allow tensors as well."""
    default = parameter.default
    if isinstance(default, bool):
        return bool
    if isinstance(default, int | float):
        declared = parameter.annotation
        return int if declared in (int, "int") else float
    if isinstance(default, tuple):
        each = tuple(float if one is not None else float | None for one in default)
        return tuple.__class_getitem__(each)
    return Any
