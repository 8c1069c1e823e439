"""Columns of a table whose texts become codes, which models embed.

Code 0 stands for what is missing and for texts that no training row has; the texts of
the training rows have the codes from 1 on, in their order.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.table_columns import Columns
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.text import format_value

CODED = ("ids", "text")
"""Kinds of columns of an encoding that are inputs of their own."""

MAX_IDS = 2**20
"""Different texts of a column in the training rows."""

Rows = NDArray[np.int64]


def fit_codes(columns: Columns, name: str, training: Rows) -> dict[str, Any]:
    """Return the encoding of a column by codes, from its training rows.

    Raises
    ------
    DataError
        If it has too many texts.
    """
    present = np.unique(columns.take(name, training))
    texts = columns.found[name].texts
    found = sorted({_plain(texts[k]) for k in present.tolist() if k >= 0})
    if len(found) > MAX_IDS:
        msg = (
            f"{columns.where}: column {format_value(name)} has {len(found)} different "
            f"texts in the training rows, beyond {MAX_IDS}; drop it, or name it as "
            "client or group if it is one"
        )
        raise DataError(msg)
    return {"column": name, "kind": "ids", "categories": found}


def _plain(text: str) -> str:
    """Return a whole number that pandas wrote with a decimal point without it."""
    return text.removesuffix(".0") if re.fullmatch(r"-?\d+\.0", text) else text


def num_codes(one: Mapping[str, Any]) -> int:
    """Return the number of codes of a column."""
    return int(one["codes"]) if "codes" in one else len(one["categories"]) + 1


def code_spec(one: Mapping[str, Any]) -> InputSpec:
    """Return the input that a column of codes becomes."""
    return spec_of(one["column"], num_codes(one))


def spec_of(name: str, codes: int) -> InputSpec:
    """Return the input of one code a row."""
    kinds = ("uint8", "uint16", "int32")
    dtype = next(kind for kind in kinds if codes <= np.iinfo(kind).max + 1)
    return InputSpec(name, (), dtype, codes=codes)


def code_reader(
    columns: Columns, one: Mapping[str, Any]
) -> Callable[[Rows], NDArray[Any]]:
    """Return a function from row numbers (n,) to the codes of a column, (n,)."""
    name, dtype = one["column"], code_spec(one).dtype
    number: dict[str, int] = {text: k for k, text in enumerate(one["categories"], 1)}
    texts: Sequence[str] = columns.found[name].texts
    # The last is that of what is missing, whose code in the column is -1.
    places = np.array([*(number.get(_plain(text), 0) for text in texts), 0], dtype)

    def read(rows: Rows) -> NDArray[Any]:
        found: NDArray[Any] = places[columns.take(name, rows)]
        return found

    return read
