"""Functions of torch for which no switch gives the same bits on every processor.

torch computes them by MKL's vector library. Whichever of its branches is chosen, they
begin with an approximation that the processor looks up (``rsqrtps``, ``rcpps``), and
whose last bits are the manufacturer's: of 200,000 square roots in float64, the branch
of AVX2 rounds 2,545 wrongly on one processor, and none on an emulated one. These are
all functions of that branch, of those that torch calls, whose code has one of these
instructions, in float32 or float64. NumPy's square root is the processor's own, which
IEEE 754 makes exact; the others are NumPy's for AVX2, or the C library's.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

FUNCTIONS: dict[str, np.ufunc] = {
    "sqrt": np.sqrt,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
}
"""Functions by their name in torch."""

HALVES = (torch.float16, torch.bfloat16)

_libraries: list[Any] = []
"""What keeps the replacements; they last as long as the process."""


def replace_functions() -> None:
    """Let torch compute `FUNCTIONS` on the processor by NumPy, in this process."""
    if _libraries:
        return
    make: Any = torch.library.Library  # has no type hints
    library = make("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are replaced on purpose
        for name, ufunc in FUNCTIONS.items():
            new, inside, into = _versions(ufunc)
            library.impl(name, new, "CPU")
            library.impl(f"{name}_", inside, "CPU")
            library.impl(f"{name}.out", into, "CPU")
    _libraries.append(library)


def _versions(
    ufunc: np.ufunc,
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], Callable[..., Any]]:
    """Return a function's three forms: with a new result, in place, into a given one.

    Gradients are not theirs: torch computes them from the result.
    """

    def new(x: Tensor) -> Tensor:
        if x.dtype in HALVES:
            return new(x.float()).to(x.dtype)
        if not (x.is_floating_point() or x.is_complex()):
            return new(x.to(torch.get_default_dtype()))
        result = torch.empty_like(x)
        _apply(ufunc, x, result)
        return result

    def inside(x: Tensor) -> Tensor:
        if x.dtype in HALVES:
            return x.copy_(new(x))
        _apply(ufunc, x, x)
        return x

    def into(x: Tensor, *, out: Tensor) -> Tensor:
        result = new(x)
        if not torch.can_cast(result.dtype, out.dtype):
            msg = f"result type {result.dtype} can't be cast to {out.dtype}"
            raise RuntimeError(msg)  # as torch
        return out.resize_(x.shape).copy_(result)

    return new, inside, into


def _apply(ufunc: np.ufunc, x: Tensor, result: Tensor) -> None:
    with np.errstate(all="ignore"):  # as torch, which gives NaN without a word
        ufunc(x.detach().resolve_conj().numpy(), out=result.detach().numpy())
