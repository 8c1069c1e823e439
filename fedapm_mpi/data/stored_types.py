"""Store inputs of floating type in another one, which takes less space."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.number_types import (
    BFLOAT16,
    all_finite,
    from_bfloat16,
    is_floating,
    largest,
    numbers,
    to_bfloat16,
)
from fedapm_mpi.data.table import Column, Table, iter_blocks
from fedapm_mpi.errors import DataError

Store = Literal["float32", "float16", "bfloat16", "int8"]

MOST_STEPS = 127
"""Largest magnitude of a value that is stored as int8: both signs have as many."""

LEAST_STEP = float(np.finfo(np.float64).smallest_normal)
"""Of values stored as int8, so that values can be divided by it."""


class Stored(NamedTuple):
    """A table whose inputs of floating type are stored in another one."""

    table: Table

    notes: Sequence[str]
    """Sentences on values that are not stored as they should be."""


def cast_storage(
    table: Table,
    dtype: Store,
    rows: NDArray[np.int64] | None = None,
    later: NDArray[np.int64] | None = None,
) -> Stored:
    """Return the table with all inputs of floating type stored in another type.

    ``int8`` divides the values of an input by one scale and rounds them. The scale is
    1/127 of the largest magnitude, of both parts of complex values, so that the error
    is at most half of it. It takes one more pass over the values, in blocks.

    Parameters
    ----------
    table
        The samples.
    dtype
        The type; inputs of integers stay as they are.
    rows
        Samples that the scale of ``int8`` follows from; all by default.
    later
        Further samples, of new clients, on which nothing is fitted: what is beyond the
        largest magnitude of `rows` becomes that magnitude.

    Raises
    ------
    DataError
        If values are not finite and `dtype` is ``int8``; otherwise when a sample is
        fetched that has a value out of its range.
    """
    rows = np.arange(len(table.labels)) if rows is None else rows
    columns, notes = [], []
    for c in table.columns:
        made, note = c, ""
        if is_floating(c.spec.dtype) and dtype == "int8":
            made, note = _quantised(c, len(table.labels), rows, later)
        elif is_floating(c.spec.dtype):
            spec = replace(c.spec, dtype=dtype)
            made = replace(c, spec=spec, fetch=_cast(c, dtype))
        columns.append(made)
        notes += [note] * bool(note)
    return Stored(replace(table, columns=columns), notes)


def _cast(column: Column, dtype: str) -> Callable[[NDArray[np.int64]], NDArray[Any]]:
    def take(rows: NDArray[np.int64]) -> NDArray[Any]:
        values = numbers(column.fetch(rows), column.spec.dtype)
        if dtype == BFLOAT16:  # values that round to the largest number are more
            made: NDArray[Any] = to_bfloat16(values)
            beyond = not all_finite(made, dtype) and np.isinf(from_bfloat16(made)).any()
        else:
            beyond = (np.abs(values) > np.finfo(dtype).max).any()
        if beyond:
            msg = (
                f"input {column.spec.name!r} has values beyond {largest(dtype):g}, the "
                f"largest that can be stored as {dtype}; leave out store={dtype}"
            )
            raise DataError(msg)
        return made if dtype == BFLOAT16 else values.astype(dtype)

    return take


def _quantised(
    column: Column,
    number: int,
    rows: NDArray[np.int64],
    later: NDArray[np.int64] | None,
) -> tuple[Column, str]:
    """Return an input of one scale, as int8, and a note on values beyond it."""
    spec = column.spec
    most = _magnitude(column, rows, number)
    step = max(most / MOST_STEPS, LEAST_STEP) if most else 1.0

    def take(wanted: NDArray[np.int64]) -> NDArray[np.int8]:
        values = numbers(column.fetch(wanted), spec.dtype).astype(np.float64)
        steps = np.clip(np.rint(values / step), -MOST_STEPS, MOST_STEPS)
        return steps.astype(np.int8)

    note = ""
    if later is not None and len(later):
        beyond = _magnitude(column, later, number)
        if beyond > most:
            note = (
                f"input {spec.name!r}: new clients have values up to {beyond:g}, which "
                f"are stored as {most:g}, the largest of other clients"
            )
    made = replace(spec, dtype="int8", scale=_scaled(spec, step))
    return replace(column, spec=made, fetch=take), note


def _scaled(spec: InputSpec, step: float) -> float:
    """Return a scale for numbers of steps.

    Raises
    ------
    DataError
        If there is no such number.
    """
    scale = spec.scale * step
    if not np.isfinite(scale) or scale == 0:
        msg = (
            f"input {spec.name!r} cannot be stored as int8, as its scale would be "
            f"{scale:g}; leave out store=int8"
        )
        raise DataError(msg)
    return scale


def _magnitude(column: Column, rows: NDArray[np.int64], number: int) -> float:
    """Return the largest magnitude of the values of some samples, as they are stored.

    Raises
    ------
    DataError
        If a value is not finite.
    """
    found = 0.0
    for block in iter_blocks(column, rows, number):
        values = numbers(block, column.spec.dtype)
        found = max(found, float(values.max(initial=0)), -float(values.min(initial=0)))
    return found
