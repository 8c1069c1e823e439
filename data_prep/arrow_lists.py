"""Lists of numbers in Arrow columns as arrays, one for each row."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.arrow_files import arrow
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.text import format_value


def is_list_of_numbers(of: Any) -> bool:
    """Return whether a type of pyarrow is of lists, of any depth, of numbers."""
    types, leaf = arrow("types"), storage(of)
    if not _is_list(leaf):
        return False
    while _is_list(leaf):
        leaf = storage(leaf.value_type)
    return bool(
        types.is_integer(leaf) or types.is_floating(leaf) or types.is_boolean(leaf)
    )


def storage(of: Any) -> Any:
    """Return the type in which an extension type is stored; others as they are."""
    return of.storage_type if isinstance(of, arrow("lib").BaseExtensionType) else of


def arrays(column: Any, name: str, first: int, where: str) -> Iterator[NDArray[Any]]:
    """Yield the array of each row.

    Parameters
    ----------
    column
        An array of pyarrow of lists of numbers.
    name, first, where
        Of the column, its first row and its file, for messages.

    Raises
    ------
    DataError
        If a row or an entry is missing, or lists within a row differ in length.
    """
    for k, row in enumerate(column):
        fault = ""
        try:
            if row.is_valid:
                yield _array(row.values)
                continue
            fault = "has no value"
        except ValueError as error:
            fault = str(error)
        msg = (
            f"{where}, row {first + k}: column {format_value(name)} {fault}; leave "
            f"such rows out, or drop=[{name}]"
        )
        raise DataError(msg)


def _array(values: Any) -> NDArray[Any]:
    """Return nested lists as one array.

    Raises
    ------
    ValueError
        If they do not make one.
    """
    shape = [len(values)]
    while _is_list(values.type):
        if values.null_count:
            msg = "has a missing list within"
            raise ValueError(msg)
        lengths = set(values.value_lengths().to_pylist())
        if len(lengths) > 1:
            msg = f"has lists of {min(lengths)} and {max(lengths)} entries within"
            raise ValueError(msg)
        shape.append(lengths.pop() if lengths else 0)
        values = values.flatten()
    if values.null_count:
        msg = "has a missing entry"
        raise ValueError(msg)
    made: NDArray[Any] = np.asarray(values.to_numpy(zero_copy_only=False))
    return made.reshape(shape)


def _is_list(of: Any) -> bool:
    types = arrow("types")
    kinds = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(kind(of) for kind in kinds)
