"""Read a csv with the client of each file."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_prep.combinations import combined
from data_prep.regular_files import regular
from data_prep.sample_fields import SPLIT_NAMES, first_repeated, identifiers, missing
from data_prep.sources.base import Source
from data_prep.unused_inputs import unused
from fedapm_mpi.data.manifest import SPLITS
from fedapm_mpi.errors import DataError
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.text import format_some, format_value

Line = Mapping[str | None, str | None]


def owners_of(
    source: Source,
    table: Path,
    listed: Sequence[str],
    kept: Sequence[str],
    client: Sequence[str],
) -> Source:
    """Return a source with the clients, and optionally the split, of a csv.

    Parameters
    ----------
    source
        Whose samples are the files `kept`.
    table
        With the columns ``file``, the one of clients, and maybe ``split``.
    listed
        All files, of which the csv must name each once and no others.
    kept
        Those that are samples, in order.
    client
        Names of the columns of clients; each combination that occurs is a client.

    Raises
    ------
    DataError
        If a column is missing or twice, a line has no client or another split, or the
        files are not the same.
    """
    columns, lines = _lines(table)
    for name in ("file", *client):
        if name not in columns:
            msg = (
                f"{table} has no column {name!r}{did_you_mean(name, columns)} "
                f"(it has: {format_some(columns)})"
            )
            raise DataError(msg)
    number = _numbers(table, lines, columns, listed)
    of_file = [number[file] for file in kept]
    found, notes = [], source.notes
    for name in client:
        owners, note = _owners(table, lines, name)
        named = identifiers(owners[of_file], f"{table}: column {name!r}")
        found.append((named.codes, named.names))
        notes = (*notes, *note)
    ids, names = combined(found, f"{table}")
    split = None
    if "split" in columns:
        split = np.array([_code(lines[k]) for k in of_file], np.int8)
    extra = unused(columns, ("file", *client, "split"), f"{table}", "column")
    return replace(
        source,
        files=(table, *source.files),
        ids=ids,
        id_names=names,
        split=split,
        notes=notes,
        warnings=(*source.warnings, *extra),
    )


def _lines(table: Path) -> tuple[list[str], list[Line]]:
    """Return the names of the columns, and all lines."""
    try:
        with regular(table).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            lines: list[Line] = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"cannot read the table {table}: {error}"
        raise DataError(msg) from error
    twice = first_repeated(columns)
    if twice is not None:
        msg = (
            f"{table} has two columns {format_value(twice)}; rename or remove one of "
            "them"
        )
        raise DataError(msg)
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t"):
        msg = (
            f"{table} has one column {format_value(columns[0])}; separate columns by "
            "commas"
        )
        raise DataError(msg)
    return columns, lines


def _numbers(
    table: Path, lines: Sequence[Line], columns: Sequence[str], listed: Sequence[str]
) -> dict[str, int]:
    """Return the line of each file; each file must have one, and no other."""
    number: dict[str, int] = {}
    for k, line in enumerate(lines):
        _check(table, k, line, columns)
        file = str(line["file"])
        if file in number:
            msg = f"{table}, line {k + 2}: {file} has been listed before"
            raise DataError(msg)
        number[file] = k
    for file in sorted(number.keys() ^ set(listed)):
        what = "is not there" if file in number else "is not in the table"
        msg = f"{table}: {file} {what}; table and folder must name the same images"
        raise DataError(msg)
    return number


def _check(table: Path, k: int, line: Line, columns: Sequence[str]) -> None:
    """Check that a line has all columns and one of the splits."""
    where = f"{table}, line {k + 2}"
    if None in line or None in line.values():
        msg = f"{where}: it does not have the {len(columns)} columns that line 1 names"
        raise DataError(msg)
    if "split" in columns and _code(line) is None:
        msg = (
            f"{where}: split must be one of {', '.join(SPLITS)}, "
            f"not {format_value(line['split'])}"
        )
        raise DataError(msg)


def _code(line: Line) -> int | None:
    """Return 0 for train, 1 for test and 2 for val, or None."""
    return SPLIT_NAMES.get(str(line["split"]).strip().casefold())


def _owners(
    table: Path, lines: Sequence[Line], client: str
) -> tuple[np.ndarray[tuple[int], np.dtype[np.str_]], tuple[str, ...]]:
    """Return the client of each line, checked, and how it was read."""
    owners = np.array([str(line[client]) for line in lines], dtype=str)
    absent = np.flatnonzero(missing(owners))
    if absent.size:
        k = int(absent[0])
        msg = (
            f"{table}, line {k + 2}: {lines[k]['file']} has no {client} "
            f"({str(owners[k])!r}; {len(absent)} of {len(lines)} lines have none); "
            "name one for each"
        )
        raise DataError(msg)
    # What pandas makes of whole numbers where one was missing.
    if not all(re.fullmatch(r"-?\d+\.0", name) for name in owners.tolist()):
        return owners, ()
    whole = np.array([owner.removesuffix(".0") for owner in owners.tolist()])
    return whole, (
        f"{table.name}: column {client!r} holds whole numbers such as "
        f"{owners[0]}; clients are named without the decimal point",
    )
