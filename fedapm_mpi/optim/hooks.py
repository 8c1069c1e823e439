"""What is added to the gradients of local steps.

Functions that are marked `elementwise` work on each number by itself. With the other
arguments bound by keyword with `functools.partial`, they may be given the blocks of
several clients as rows, (clients, d), and bound tensors likewise.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

GradientHook = Callable[[Tensor, Tensor], object]
"""``hook(gradient, vector)`` changes a block's gradient, (d,), in place.

That is where proximal terms, duals and control variates come in."""

Function = TypeVar("Function", bound=Callable[..., Any])


def elementwise(function: Function) -> Function:
    """Declare that a hook works on each number by itself."""
    function.elementwise = True  # type: ignore[attr-defined]
    return function


@elementwise
def pull(gradient: Tensor, vector: Tensor, *, centre: Tensor, strength: float) -> None:
    r"""Add the gradient of :math:`\tfrac\lambda2 \|w - c\|^2`.

    Parameters
    ----------
    gradient, vector : (d,)
        The gradient, changed in place, and w.
    centre : (d,)
        The point c.
    strength
        The coefficient :math:`\lambda`.
    """
    gradient.add_(vector - centre, alpha=strength)


@elementwise
def add(gradient: Tensor, vector: Tensor, *, correction: Tensor) -> None:
    """Add a constant, (d,)."""
    gradient.add_(correction)
