"""Standardise inputs by each client's mean and deviation, or those of all clients."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.shifts.base import Clients, Shifted, chosen_numbers, shifts
from fedapm_mpi.data.number_types import numbers
from fedapm_mpi.data.table import BLOCK_BYTES, Column, Table, fetch_checked
from fedapm_mpi.errors import ConfigError, DataError

EPSILON = 1e-5


@shifts.register("standardise")
def standardise(
    table: Table,
    clients: Clients,
    *,
    over: Literal["train", "all", "pooled"] = "train",
    inputs: list[str] | None = None,
) -> Shifted:
    """Give inputs mean 0 and standard deviation 1, per client or over all of them.

    That is (x - mean) / (std + 1e-5). Mean and standard deviation are of each number of
    a vector, or of a step of a sequence, over all of the client's steps within their
    lengths. The result is stored as float32. Clients without such samples keep theirs
    as they are.

    Over pooled samples it is (x - mean) / std, the same for every client, which keeps
    the differences of clients; a number that is constant over all training samples
    becomes x - mean.

    Parameters
    ----------
    table, clients
        The samples and their clients.
    over
        Samples of the mean and deviation: a client's training samples, all of its
        samples (as in FedAPM's experiments on CREMA-D), or the training samples of all
        clients, pooled.
    inputs
        Names of the inputs to change; all unless given.

    Raises
    ------
    ConfigError
        If there is no such input, or one of more than two axes or of complex numbers.
    DataError
        If a value is not finite, or too large for its square to be.
    """
    chosen = chosen_numbers(table, inputs, "standardise")
    columns = []
    for c in table.columns:
        if c.spec.name in chosen:
            if c.spec.complex:
                msg = (
                    f"shift=standardise: input {c.spec.name!r} is complex, which it "
                    "does not take; name the others with shift.inputs"
                )
                raise ConfigError(msg)
            if len(c.spec.shape) > 2:
                msg = (
                    f"shift=standardise: input {c.spec.name!r} has the shape "
                    f"{c.spec.shape}; it takes vectors and sequences of vectors, so "
                    "name the others with shift.inputs"
                )
                raise ConfigError(msg)
            columns.append(_standardised(c, clients, over))
        else:
            columns.append(c)
    return Shifted(replace(table, columns=columns), [""] * clients.number)


def _standardised(column: Column, clients: Clients, over: str) -> Column:
    with np.errstate(over="ignore", invalid="ignore"):  # checked below
        if over == "pooled":
            mean, spread = (
                np.broadcast_to(value, (clients.number, len(value)))
                for value in _pooled(column, np.flatnonzero(clients.training))
            )
        else:
            mean, spread = _moments(column, clients, over)
    if not (np.isfinite(mean).all() and np.isfinite(spread).all()):
        msg = (
            f"shift=standardise: the values of input {column.spec.name!r} are too "
            "large for a mean and a spread; divide them first"
        )
        raise DataError(msg)

    def take(rows: NDArray[np.int64]) -> NDArray[Any]:
        steps, inside = _steps(column, rows)
        owner = clients.owner[rows]
        scores = (steps - mean[owner][:, None]) / spread[owner][:, None]
        scores[~inside] = 0
        return scores.astype(np.float32).reshape(len(rows), *column.spec.shape)

    spec = replace(column.spec, dtype="float32", scale=1.0, shift=0.0)
    return replace(column, spec=spec, fetch=take)


def _steps(
    column: Column, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return values as a model sees them, (n, T, C), and which steps there are."""
    spec = column.spec
    shape = spec.shape if len(spec.shape) == 2 else (1, *(spec.shape or (1,)))
    stored = numbers(fetch_checked(column, rows), spec.dtype)
    values = stored.astype(np.float64) * spec.scale + spec.shift
    inside = np.ones((len(rows), shape[0]), bool)
    if column.lengths is not None:
        reach = np.arange(spec.shape[0]) < column.lengths[rows][:, None]
        if len(spec.shape) == 2:
            inside = reach
    steps = values.reshape(len(rows), *shape)
    wrong = ~np.isfinite(steps).all(axis=2) & inside
    if wrong.any():
        row = rows[wrong.any(axis=1)][0]
        msg = (
            f"shift=standardise: input {spec.name!r} of sample {row} is NaN or "
            "infinite; repair or drop that sample in the source"
        )
        raise DataError(msg)
    return steps, inside


def _pooled(
    column: Column, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and divisor, (C,), over all steps of these rows, in two passes."""
    count = 0
    total: Any = 0.0
    low: Any = np.inf
    high: Any = -np.inf
    for block in _blocks(column, rows):
        x = _inside(column, block)
        count += len(x)
        total = total + x.sum(axis=0)
        low = np.minimum(low, x.min(axis=0, initial=np.inf))
        high = np.maximum(high, x.max(axis=0, initial=-np.inf))
    mean = total / max(1, count)
    off: Any = 0.0
    square: Any = 0.0
    for block in _blocks(column, rows):
        apart = _inside(column, block) - mean
        off = off + apart.sum(axis=0)
        square = square + (apart**2).sum(axis=0)
    # Correct both for the rounding error of the mean.
    off = off / max(1, count)
    spread = np.sqrt(np.maximum(0, square / max(1, count) - off**2))
    # By the values: rounding gives a constant a deviation that is not exactly 0.
    constant = low >= high
    known = np.where(np.isfinite(low), low, 0)
    mean = np.where(constant, known, mean + off)
    return mean, np.where(constant | (spread == 0), 1, spread)


def _inside(column: Column, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the steps of rows within their lengths, (k, C)."""
    steps, inside = _steps(column, rows)
    within: NDArray[np.float64] = steps[inside]
    return within


def _blocks(column: Column, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    size = 8 * max(1, int(np.prod(column.spec.shape)))
    return np.array_split(rows, max(1, len(rows) * size // BLOCK_BYTES))


def _moments(
    column: Column, clients: Clients, over: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each client's mean and divisor, (m, C), from two passes over its rows."""
    rows = np.flatnonzero(clients.training | (over == "all"))
    blocks = _blocks(column, rows)

    def summed(
        values: Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]],
    ) -> NDArray[np.float64]:
        total: Any = 0.0
        for block in blocks:
            steps, inside = _steps(column, block)
            owner = clients.owner[block]
            sums = np.where(inside[..., None], values(steps, owner), 0).sum(axis=1)
            part = np.zeros((clients.number, sums.shape[1]))
            np.add.at(part, owner, sums)
            total = total + part
        return np.asarray(total)

    count = np.maximum(summed(lambda x, _: np.ones_like(x)), 1)
    mean = summed(lambda x, _: x) / count
    square = summed(lambda x, owner: (x - mean[owner][:, None]) ** 2) / count
    known = np.isin(np.arange(clients.number), clients.owner[rows])[:, None]
    return np.where(known, mean, 0), np.where(known, np.sqrt(square) + EPSILON, 1)
