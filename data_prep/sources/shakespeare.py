"""Shakespeare as LEAF's scripts write it: the next character, by role."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.sources._leaf import read_leaf
from data_prep.sources.base import Source, sources
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.target import TargetValues

LETTERS = (
    "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}"
)
"""LEAF's characters, in its order."""

OTHER = len(LETTERS)
"""Code of any other; LEAF's own models treat these as the last character."""

WINDOW = 80
NAMED = {"\n": "newline", " ": "space"}
CLASSES = (*(NAMED.get(c, c) for c in LETTERS), "other")


@sources.register("shakespeare")
def shakespeare(path: Path, *, predict: Literal["last", "every"] = "last") -> Source:
    """Read LEAF's Shakespeare: the character that follows 80 others, by role.

    Each role of a play is a client. LEAF's split is kept unless
    ``split=random``, but its windows overlap: a test window shares most of its
    characters with training windows. A model sees codes from 0, as LEAF numbers its
    80 characters; 80 stands for any other. By default they are numbers, which the model
    ``transformer`` embeds if it is given their ``vocabulary``.

    Split: LEAF's own where it has split the set.

    Parameters
    ----------
    path
        LEAF's ``data/shakespeare``, its ``data`` with ``train`` and ``test``, or a
        folder of JSON files that LEAF has not split.
    predict
        ``last``: the character that follows a window is its class. ``every``: the
        target of each character is the one that follows it, for the task
        ``next-token``; characters are codes that models embed.

    References
    ----------
    McMahan et al. (2017), arXiv:1602.05629; Caldas et al. (2018), LEAF: a benchmark for
    federated settings, arXiv:1812.01097.
    """
    read = read_leaf(path, _windows, _label)
    if predict == "every":
        following = np.column_stack([read.inputs[:, 1:], read.labels]).astype(np.int8)
        target = TargetValues("dense", CLASSES, following)
        table = Table(
            dataset="shakespeare",
            columns=[column("text", read.inputs, codes=len(CLASSES))],
            labels=read.labels,
            classes=CLASSES,
            target=target,
        )
        return read.as_source(table)
    return read.as_source(
        Table(
            dataset="shakespeare",
            columns=[column("text", read.inputs)],
            labels=read.labels,
            classes=CLASSES,
        )
    )


def _windows(x: list[Any]) -> NDArray[np.uint8]:
    """Return codes (n, 80)."""
    for window in x:
        if not isinstance(window, str) or len(window) != WINDOW:
            msg = f"{window!r} is not a text of {WINDOW} characters"
            raise ValueError(msg)
    # The code of each character, by its code point.
    points = np.array(x, f"U{WINDOW}").view(np.uint32).reshape(len(x), WINDOW)
    return _CODES[np.minimum(points, len(_CODES) - 1)]


def _label(y: Any) -> int:
    if not isinstance(y, str) or len(y) != 1:
        msg = f"{y!r} is not a character"
        raise ValueError(msg)
    return int(_CODES[min(ord(y), len(_CODES) - 1)])


def _codes() -> NDArray[np.uint8]:
    table = np.full(129, OTHER, np.uint8)
    for code, letter in enumerate(LETTERS):
        table[ord(letter)] = code
    return table


_CODES = _codes()
