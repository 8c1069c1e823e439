"""Samples that several clients have: a copy for each, which shifts may change."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.shifts import Clients
from fedapm_mpi.data.table import Column, Table, iter_blocks

Indices = NDArray[np.int64]


class Copies(NamedTuple):
    """A table with one sample for each client and sample of the client's."""

    table: Table
    """Its samples have the numbers of those that they are copies of."""

    splits: dict[str, list[Indices]]
    """Split name to the rows of each client, in the order in which they were given."""

    clients: Clients


def own_copies(
    table: Table,
    splits: Mapping[str, Sequence[Indices]],
    trained: int,
    seed: int,
) -> Copies:
    """Return a table in which no two clients have the same row.

    Inputs are fetched from the table, and take no more memory.

    Parameters
    ----------
    table
        The samples.
    splits
        Split name to the rows of each of the m clients.
    trained
        Number of clients that have a part in training; the first ones.
    seed
        Of the preparation.
    """
    m = len(splits["train"])
    every = [parts[client] for client in range(m) for parts in splits.values()]
    stops = np.cumsum([len(rows) for rows in every])
    rows = np.concatenate(every)
    owner = np.repeat(
        np.arange(m),
        [sum(len(parts[client]) for parts in splits.values()) for client in range(m)],
    )
    places = np.split(np.arange(len(rows)), stops[:-1])
    made = {name: places[k :: len(splits)] for k, name in enumerate(splits)}
    training = np.zeros(len(rows), bool)
    for own in made["train"][:trained]:
        training[own] = True
    clients = Clients(m, owner, training, seed)
    return Copies(_at(table, rows), made, clients)


def _at(table: Table, rows: Indices) -> Table:
    """Return a table of some rows, each as often as it is named."""
    # All arrays of a table have an entry for each sample.
    own = {field.name: getattr(table, field.name) for field in fields(table)}
    made: dict[str, Any] = {"numbers": rows}
    made |= {k: v[rows] for k, v in own.items() if isinstance(v, np.ndarray)}
    if table.target is not None:
        made["target"] = replace(table.target, values=table.target.values[rows])
    number = len(table.labels)
    made["columns"] = [_column_at(column, rows, number) for column in table.columns]
    return replace(table, **made)


def _column_at(column: Column, rows: Indices, number: int) -> Column:
    lengths = None if column.lengths is None else np.asarray(column.lengths)[rows]

    def take(copies: Indices) -> NDArray[Any]:
        if not len(copies):
            return column.fetch(rows[copies])
        # Checked here, where a message can name the sample and not the copy.
        return np.concatenate(list(iter_blocks(column, rows[copies], number)))

    return replace(column, fetch=take, lengths=lengths)
