"""Inputs, or their columns, spread over clients: each sees only its own."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.shifts.base import (
    Clients,
    Shifted,
    check_may_be_empty,
    chosen_inputs,
    emptied,
    shifts,
)
from data_prep.table_codes import CODED
from data_prep.table_encoding import input_names
from fedapm_mpi.data.held_columns import blank, num_columns
from fedapm_mpi.data.table import Column, Table
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.rng import Purpose, generator
from fedapm_mpi.utils.text import format_some, format_value

NAMED = 3
"""Inputs or columns of a client that a note names."""


class _Unit(NamedTuple):
    """What a client has or does not have as a whole."""

    name: str
    """Of an input, of a table's column, or ``x.3`` of the fourth column of x."""

    column: int
    """Number of the input."""

    part: slice | None
    """Its columns; None for the whole input."""


@shifts.register("vertical")
def vertical(
    table: Table,
    clients: Clients,
    *,
    pieces: int | list[list[str]] | None = None,
    order: Literal["given", "random"] = "given",
    overlap: float = 0.0,
    common: list[str] | None = None,
    columns: list[str] | None = None,
) -> Shifted:
    """Spread inputs, or the columns of an input, over clients: each has some of them.

    With ``partitioner=all-samples`` clients have the same samples and differ in inputs,
    as in vertical federated learning; with any other, they differ in both. Columns are
    the entries of the last axis, or of a table those that it had before they were
    encoded. An input that a client does not have has the length 0, and a column is what
    a model sees as 0. The manifest has who has what.

    Parameters
    ----------
    table, clients
        The samples and their clients.
    pieces
        Number of pieces that inputs or columns are divided into, one for each client by
        default; or the names in each piece. Client k has piece k modulo the number.
    order
        Whether pieces are cut, and assigned, as ``given`` or in ``random`` order.
    overlap
        Share of the other pieces' inputs or columns that a client has too, at random.
    common
        Names of inputs or columns that all clients have.
    columns
        Inputs that are spread by columns, ``x.0`` and so on or as a table names them;
        others are spread as a whole. By default the only input, or that of a table.

    Raises
    ------
    ConfigError
        If there is no such input or column, too few of them, or one cannot be spread.
    DataError
        If a sample would be left without any input.
    """
    if not 0 <= overlap < 1:
        msg = f"shift.overlap must be at least 0 and below 1, got {overlap}"
        raise ConfigError(msg)
    units = _units(table, columns)
    has = _assigned(
        units, clients, pieces, order, _numbers(units, common or (), "common")
    )
    _add(has, overlap, clients.seed)
    changed = [_held(c, k, units, has, clients) for k, c in enumerate(table.columns)]
    _check_left(changed, clients)
    return Shifted(replace(table, columns=changed), [_note(units, row) for row in has])


def _assigned(
    units: Sequence[_Unit],
    clients: Clients,
    pieces: int | list[list[str]] | None,
    order: str,
    common: set[int],
) -> NDArray[np.bool_]:
    """Return which units each client has, (m, units)."""
    rng = generator(clients.seed, Purpose.VERTICAL, 0)
    spread = [k for k in range(len(units)) if k not in common]
    made = _pieces(units, spread, pieces, clients.number, order, rng)
    piece_of = np.arange(clients.number) % len(made)
    if order == "random":
        piece_of = rng.permutation(piece_of)
    has = np.zeros((clients.number, len(units)), bool)
    has[:, sorted(common)] = True
    for client, piece in enumerate(piece_of.tolist()):
        has[client, made[piece]] = True
    return has


def _add(has: NDArray[np.bool_], share: float, seed: int) -> None:
    """Give each client, in place, a share of the units that it does not have."""
    for client, own in enumerate(has):
        rest = np.flatnonzero(~own)
        rng = generator(seed, Purpose.VERTICAL, 1, client)
        own[rng.choice(rest, round(share * len(rest)), replace=False)] = True


def _units(table: Table, by_column: Sequence[str] | None) -> list[_Unit]:
    """Return what is spread, in order."""
    alone = len(table.columns) == 1 or bool(_encoded(table, 0))
    if by_column is None:
        by_column = [table.columns[0].spec.name] * alone
    divided = chosen_inputs(table, by_column, "columns")
    found = []
    for number, c in enumerate(table.columns):
        if c.spec.name in divided:
            found += _columns_of(table, number)
        elif c.spec.shape or (c.spec.codes and not _has_code_for_none(table, c)):
            found.append(_Unit(c.spec.name, number, None))
        else:
            found.append(_Unit(c.spec.name, number, slice(0, 1)))
    return found


def _encoded(table: Table, number: int) -> list[tuple[str, int]]:
    """Return the table's columns that an input was made of, and their widths."""
    widths = [(one["column"], len(input_names([one]))) for one in table.encoding]
    found = [(name, width) for name, width in widths if width]
    total = sum(width for _, width in found)
    made = number == 0 and table.columns[0].spec.shape == (total,)
    return found if made else []


def _has_code_for_none(table: Table, column: Column) -> bool:
    """Return whether code 0 of an input stands for what is missing."""
    return any(
        one["kind"] in CODED and one["column"] == column.spec.name
        for one in table.encoding
    )


def _columns_of(table: Table, number: int) -> list[_Unit]:
    """Return the columns of an input; of a table those that were encoded."""
    spec = table.columns[number].spec
    if spec.codes or len(spec.shape) < 1 + spec.ragged:
        what = "holds codes" if spec.codes else "is a series of numbers"
        what = what if spec.shape else "is a number"
        msg = (
            f"shift=vertical: input {spec.name!r} {what} and has no columns; it can be "
            "spread as a whole, besides others"
        )
        raise ConfigError(msg)
    encoded = _encoded(table, number)
    if encoded:
        stops = np.cumsum([width for _, width in encoded]).tolist()
        return [
            _Unit(name, number, slice(stop - width, stop))
            for (name, width), stop in zip(encoded, stops, strict=True)
        ]
    return [
        _Unit(f"{spec.name}.{k}", number, slice(k, k + 1))
        for k in range(spec.shape[-1])
    ]


def _numbers(units: Sequence[_Unit], names: Sequence[str], key: str) -> set[int]:
    """Return the numbers of named units."""
    known = {unit.name: k for k, unit in enumerate(units)}
    for name in names:
        if name not in known:
            msg = (
                f"shift.{key}: there is no input or column {format_value(name)}"
                f"{did_you_mean(name, list(known))} (there are: {format_some(known)})"
            )
            raise ConfigError(msg)
    return {known[name] for name in names}


def _pieces(
    units: Sequence[_Unit],
    spread: Sequence[int],
    pieces: int | list[list[str]] | None,
    clients: int,
    order: str,
    rng: np.random.Generator,
) -> list[list[int]]:
    """Return the units of each piece."""
    most = min(len(spread), clients)
    if most < 2:
        msg = (
            f"shift=vertical spreads {len(spread)} inputs or columns over {clients} "
            "clients, and needs two of both; shift.columns names inputs to divide"
        )
        raise ConfigError(msg)
    number = len(pieces) if isinstance(pieces, list) else (pieces or most)
    if not 2 <= number <= (clients if isinstance(pieces, list) else most):
        msg = (
            f"shift.pieces makes {number} pieces; there may be from 2 to {most}, as "
            f"there are {clients} clients and {len(spread)} inputs or columns to spread"
        )
        raise ConfigError(msg)
    if isinstance(pieces, list):
        named = [_numbers(units, names, "pieces") for names in pieces]
        left = [units[k].name for k in spread if not any(k in own for own in named)]
        if left or not all(named):
            what = f"no piece has {format_some(left)}" if left else "a piece is empty"
            msg = (
                f"shift.pieces: {what}; name each input or column in a piece or in "
                "shift.common, or leave it out of the data set"
            )
            raise ConfigError(msg)
        return [sorted(own) for own in named]
    ordered = np.array(spread) if order == "given" else rng.permutation(spread)
    return [sorted(own.tolist()) for own in np.array_split(ordered, number)]


def _held(
    column: Column,
    number: int,
    units: Sequence[_Unit],
    has: NDArray[np.bool_],
    clients: Clients,
) -> Column:
    """Return an input of which each client has what it is to have."""
    own = [k for k, unit in enumerate(units) if unit.column == number]
    if units[own[0]].part is not None and not has[:, own].all():
        held = np.zeros((clients.number, num_columns(column.spec)), bool)
        for k in own:
            held[:, units[k].part] = has[:, k : k + 1]
        take = _with_blanks(column, held, clients.owner)
        column = replace(column, fetch=take, held=held)
    lacks = np.logical_not(np.any(has[:, own], axis=1, keepdims=True))[:, 0]
    if not lacks.any() or (units[own[0]].part is not None and not column.spec.shape):
        return column
    check_may_be_empty([column], "vertical")
    return emptied(column, lacks[clients.owner])


def _with_blanks(
    column: Column, held: NDArray[np.bool_], owner: NDArray[np.int64]
) -> Callable[[NDArray[np.int64]], NDArray[Any]]:
    nothing = blank(column.spec)
    spec = column.spec
    shape = (*(1,) * (len(spec.shape) - 1), *spec.shape[-1:], *(1,) * spec.complex)

    def take(rows: NDArray[np.int64]) -> NDArray[Any]:
        block = column.fetch(rows)
        kept = held[owner[rows]].reshape(len(rows), *shape)
        return np.where(kept, block, nothing)

    return take


def _check_left(columns: Sequence[Column], clients: Clients) -> None:
    """Refuse a sample that has no input any more."""
    gone = []
    for c in columns:
        lacks = np.zeros(len(clients.owner), bool)
        if c.held is not None:
            lacks |= ~np.any(c.held[clients.owner], axis=1)
        if c.lengths is not None:
            lacks |= c.lengths == 0
        gone.append(lacks)
    bare = np.flatnonzero(np.all(gone, axis=0))
    if bare.size:
        msg = (
            f"shift=vertical would leave {len(bare)} samples without any input, the "
            f"first of client {clients.owner[bare].min()}, as they lack those of the "
            "client; name an input that they have in shift.common, or leave such "
            "samples out"
        )
        raise DataError(msg)


def _note(units: Sequence[_Unit], has: NDArray[np.bool_]) -> str:
    """Describe what a client has."""
    names = [unit.name for unit, own in zip(units, has.tolist(), strict=True) if own]
    if len(names) == len(units):
        return ""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
