"""Inputs that hold codes, such as those of words, which models embed."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class CodedInput(Protocol):
    """What a check of codes needs of an input."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def codes(self) -> int: ...  # noqa: D102


def code_fault(
    spec: CodedInput, values: NDArray[Any], rows: NDArray[np.int64] | None = None
) -> str:
    """Return where the first code is that cannot be; empty if there is none.

    Parameters
    ----------
    spec
        The input, of which codes are 0 to ``spec.codes - 1``.
    values
        ``(n, *shape)`` integers.
    rows
        ``(n,)`` numbers of the samples, for the message; 0, 1, … by default.
    """
    if not values.size or (values.min() >= 0 and values.max() < spec.codes):
        return ""
    row, *place = np.argwhere((values < 0) | (values >= spec.codes))[0].tolist()
    sample = row if rows is None else int(rows[row])
    where = f" at {place}" if place else ""
    return (
        f"input {spec.name!r} of sample {sample} has the code "
        f"{values[(row, *place)]}{where}, not 0 to {spec.codes - 1}"
    )
