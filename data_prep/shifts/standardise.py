"""Inputs in units of each client's own mean and spread."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.tables import BLOCK_BYTES, Column, Table

from .base import Clients, Shifted, chosen_inputs, shifts

EPSILON = 1e-5


@shifts.register("standardise")
def standardise(
    table: Table,
    clients: Clients,
    *,
    over: Literal["train", "all"] = "train",
    inputs: list[str] | None = None,
) -> Shifted:
    """Give inputs the mean 0 and the spread 1 at each client.

    That is (x - mean) / (std + 1e-5). Mean and standard deviation are of each number of
    a vector, or of a step of a sequence, over all of the client's steps within their
    lengths. The result is stored as float32. Clients without such samples keep theirs
    as they are.

    Parameters
    ----------
    table, clients
        The samples and who holds them.
    over
        Whether a client's training samples tell its mean and spread, which leaves its
        test samples unseen, or all of its samples (as in FedAPM's experiments on
        CREMA-D).
    inputs
        Names of the inputs to change; all unless given.

    Raises
    ------
    ConfigError
        If there is no such input, or one of more than two axes.
    """
    chosen = chosen_inputs(table, inputs)
    columns = []
    for c in table.columns:
        if c.spec.name in chosen:
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
    mean, spread = _moments(column, clients, over)

    def take(rows: NDArray[np.int64]) -> NDArray[Any]:
        steps, inside = _steps(column, rows)
        owner = clients.owner[rows]
        scores = (steps - mean[owner][:, None]) / spread[owner][:, None]
        scores[~inside] = 0
        return scores.astype(np.float32).reshape(len(rows), *column.spec.shape)

    spec = replace(column.spec, dtype="float32", scale=1.0, shift=0.0)
    return replace(column, spec=spec, take=take)


def _steps(
    column: Column, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return values as a model sees them, (n, T, C), and which steps there are."""
    spec = column.spec
    shape = spec.shape if len(spec.shape) == 2 else (1, *(spec.shape or (1,)))
    values = column.take(rows).astype(np.float64) * spec.scale + spec.shift
    inside = np.ones((len(rows), shape[0]), bool)
    if column.lengths is not None:
        reach = np.arange(spec.shape[0]) < column.lengths[rows][:, None]
        if len(spec.shape) == 2:
            inside = reach
    return values.reshape(len(rows), *shape), inside


def _moments(
    column: Column, clients: Clients, over: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each client's mean and divisor, (m, C), from two passes over its rows."""
    rows = np.flatnonzero(clients.training | (over == "all"))
    size = 8 * max(1, int(np.prod(column.spec.shape)))
    blocks = np.array_split(rows, max(1, len(rows) * size // BLOCK_BYTES))

    def summed(
        values: Callable[[NDArray[np.float64], NDArray[np.int64]], NDArray[np.float64]],
    ) -> NDArray[np.float64]:
        total: Any = 0.0
        for block in blocks:
            steps, inside = _steps(column, block)
            owner = clients.owner[block]
            own = np.where(inside[..., None], values(steps, owner), 0).sum(axis=1)
            part = np.zeros((clients.number, own.shape[1]))
            np.add.at(part, owner, own)
            total = total + part
        return np.asarray(total)

    count = np.maximum(summed(lambda x, _: np.ones_like(x)), 1)
    mean = summed(lambda x, _: x) / count
    square = summed(lambda x, owner: (x - mean[owner][:, None]) ** 2) / count
    known = np.isin(np.arange(clients.number), clients.owner[rows])[:, None]
    return np.where(known, mean, 0), np.where(known, np.sqrt(square) + EPSILON, 1)
