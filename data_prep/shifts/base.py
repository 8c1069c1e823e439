"""The interface of shifts.

A partitioner assigns samples to clients; a shift changes samples by their clients.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.data.table import Column, Table
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.registry import Registry, did_you_mean


class Clients(NamedTuple):
    """The clients of the N samples of a table, exactly one of m for each."""

    number: int
    """m."""

    owner: NDArray[np.int64]
    """(N,) the client of each sample."""

    training: NDArray[np.bool_]
    """(N,) whether the sample is for training."""

    seed: int
    """Of the preparation, for `utils.rng.generator`."""


class Shifted(NamedTuple):
    """A table with some samples changed."""

    table: Table

    notes: Sequence[str]
    """(m,) change of each client, to follow its name; empty without one."""


shifts: Registry[Callable[..., Shifted]] = Registry("shift", "data_prep.shifts")


def strengths(m: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return ``(m,)`` strengths from 0 to 1 in equal steps, in random order."""
    return rng.permutation(m) / max(1, m - 1)


def check_classes(table: Table, name: str) -> None:
    """Refuse samples whose target is not one class.

    Raises
    ------
    ConfigError
        If the table has targets.
    """
    if table.target is not None:
        msg = (
            f"shift={name} changes classes, but the data set has "
            f"{table.target.kind} targets; leave it out"
        )
        raise ConfigError(msg)


def chosen_inputs(
    table: Table, wanted: Sequence[str] | None, key: str = "inputs"
) -> set[str]:
    """Return the names of the inputs to change: all, unless some are named by a key.

    Raises
    ------
    ConfigError
        If there is no such input.
    """
    names = [c.spec.name for c in table.columns]
    for name in wanted or ():
        if name not in names:
            msg = (
                f"shift.{key}: the data set has no input {name!r}"
                f"{did_you_mean(name, names)} (it has: {', '.join(names)})"
            )
            raise ConfigError(msg)
    return set(names if wanted is None else wanted)


def chosen_numbers(table: Table, wanted: Sequence[str] | None, shift: str) -> set[str]:
    """Return the names of the inputs whose numbers a shift is to change.

    All that hold numbers, unless some are named; codes have no values to change.

    Raises
    ------
    ConfigError
        If there is no such input, or it holds codes.
    """
    coded = {c.spec.name for c in table.columns if c.spec.codes}
    named = sorted(coded & set(wanted or ()))
    if named:
        msg = f"shift={shift}: input {named[0]!r} holds codes, which it cannot change"
        raise ConfigError(msg)
    return chosen_inputs(table, wanted) - coded


def check_may_be_empty(columns: Sequence[Column], shift: str) -> None:
    """Refuse inputs without an axis, which have no length.

    Raises
    ------
    ConfigError
        If there is one.
    """
    for c in columns:
        if not c.spec.shape:
            msg = f"shift={shift}: input {c.spec.name!r} is a number and can't be empty"
            raise ConfigError(msg)


def emptied(column: Column, without: NDArray[np.bool_]) -> Column:
    """Return a column of which some samples have the length 0, and are zeros.

    Parameters
    ----------
    column
        An input of one axis at least.
    without
        ``(N,)`` whether a sample lacks it.
    """
    whole = np.full(len(without), column.spec.shape[0])
    lengths = whole if column.lengths is None else column.lengths
    return replace(
        column,
        spec=replace(column.spec, ragged=True),
        fetch=_blanked(column.fetch, without),
        lengths=np.where(without, 0, lengths),
        optional=True,
    )


def _blanked(
    take: Callable[[NDArray[np.int64]], NDArray[Any]], without: NDArray[np.bool_]
) -> Callable[[NDArray[np.int64]], NDArray[Any]]:
    def blanked(rows: NDArray[np.int64]) -> NDArray[Any]:
        block = take(rows).copy()
        block[without[rows]] = 0
        return block

    return blanked
