"""From the columns of a table to numbers: fitted on training rows, then applied to all.

An encoding is a sequence of mappings with plain values, one for each column, which the
manifest has: so the same can be done to rows of another table. Columns that become
codes are inputs of their own; see `table_codes`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.table_codes import CODED, fit_codes, num_codes
from data_prep.table_columns import Column, Columns, others
from data_prep.table_texts import Tokenizer, fit_texts
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.utils.text import format_some, format_value

MAX_CATEGORIES = 1000
"""Categories of a column, each of which is an input of its own."""

BLOCK_ROWS = 2**16
"""Dates that are taken apart at a time."""

MAX_TOKENS = 128
"""Of a text, unless another number is given."""

DATE_PARTS = ("year", "month", "day", "weekday", "hour")

Missing = Literal["refuse", "mean", "median"]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Encode:
    """What columns become.

    Attributes
    ----------
    missing
        What a number or date that is missing becomes: the mean or median of the
        training rows, with an input that says so; or it is refused.
    scaled
        Whether numbers get mean 0 and standard deviation 1 over the training rows.
    ordinal
        By column its texts in their order, which become 0, 1, …, and are then numbers.
    ids
        Columns whose texts become codes, each an input of its own.
    text
        Columns whose texts become tokens, each an input of its own.
    tokenizer
        What takes them apart, if there are such.
    max_tokens
        Of a text, at most.
    texts
        Further columns that are read as texts.
    """

    missing: Missing = "refuse"
    scaled: bool = True
    ordinal: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ids: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    tokenizer: str | None = None
    max_tokens: int = MAX_TOKENS
    texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            msg = f"max_tokens must be at least 1, got {self.max_tokens}"
            raise ConfigError(msg)
        if self.text and self.tokenizer is None:
            msg = (
                f"text names {format_some(self.text)}, but nothing takes it apart; "
                "name the folder of a tokenizer with tokenizer=FOLDER"
            )
            raise ConfigError(msg)
        if not self.text and self.max_tokens != MAX_TOKENS:
            msg = "max_tokens has no effect without text; leave it out"
            raise ConfigError(msg)
        if not self.text and not self.texts and self.tokenizer is not None:
            msg = "tokenizer has no effect without text; leave it out"
            raise ConfigError(msg)
        for name, order in self.ordinal.items():
            if len(order) < 2 or len(set(order)) < len(order):
                msg = (
                    f"ordinal.{name} is {format_value(', '.join(order))}; give its "
                    "texts from the least to the greatest, each once"
                )
                raise ConfigError(msg)

    def as_text(self) -> list[str]:
        """Return the columns that are read as texts, whatever they look like."""
        return [*self.ordinal, *self.ids, *self.text, *self.texts]


def fit(
    columns: Columns, names: Sequence[str], training: Rows, wanted: Encode
) -> tuple[dict[str, Any], ...]:
    """Return the encoding of columns, from their training rows.

    Parameters
    ----------
    columns
        The table.
    names
        Those that are encoded, in order.
    training
        Numbers of the rows.
    wanted
        What they become.

    Raises
    ------
    DataError
        If a value is missing and refused, a column has no value in the training rows,
        or too many categories, or a text is not among the ordered ones.
    """
    made = []
    tokenizer = Tokenizer(str(wanted.tokenizer)) if wanted.text else None
    for name in names:
        column = columns.found[name]
        if name in wanted.text:
            assert tokenizer is not None
            made.append(fit_texts(columns, name, tokenizer, wanted.max_tokens))
            continue
        if name in wanted.ids:  # codes have one for what is missing
            made.append(fit_codes(columns, name, training))
            continue
        absent = np.flatnonzero(_absent(column))
        if absent.size and wanted.missing == "refuse":
            msg = (
                f"{columns.place(int(absent[0]))}: column {format_value(name)} has no "
                f"value there{others(len(absent) - 1)}; set missing=median "
                f"or mean to fill them in, or drop=[{name}]"
            )
            raise DataError(msg)
        if column.kind == "text" and name not in wanted.ordinal:
            made.append(_categories(columns, name, training))
        else:
            made.append(_numbers(columns, name, training, wanted))
        column.release()
    return tuple(made)


def _absent(column: Column) -> NDArray[np.bool_]:
    values = column.values
    return values < 0 if column.kind == "text" else np.isnan(values)


def _categories(columns: Columns, name: str, training: Rows) -> dict[str, Any]:
    column = columns.found[name]
    present = np.unique(columns.take(name, training))
    if len(present) > MAX_CATEGORIES:
        msg = (
            f"{columns.where}: column {format_value(name)} has {len(present)} "
            f"different texts in the training rows, beyond {MAX_CATEGORIES}; drop it "
            f"with drop=[{name}], or name it as client or group if it is one"
        )
        raise DataError(msg)
    texts = [column.texts[k] for k in present.tolist() if k >= 0]
    return {
        "column": name,
        "kind": "category",
        "categories": texts,
        "missing": bool((present < 0).any()),
    }


def _ranks(columns: Columns, name: str, order: Sequence[str]) -> NDArray[np.float64]:
    """Return the rank of each text of a column, then NaN, for what is missing.

    Raises
    ------
    DataError
        If one is not in the order.
    """
    column = columns.found[name]
    rank = {text: float(k) for k, text in enumerate(order)}
    for code, text in enumerate(column.texts):
        if text in rank:
            continue
        rows = np.flatnonzero(column.values == code)
        if rows.size:
            row = rows[0] if columns.places is None else _row_at(columns, rows[0])
            msg = (
                f"{columns.place(int(row))}: column {format_value(name)} is "
                f"{format_value(text)} there{others(len(rows) - 1)}, which is not in "
                f"ordinal.{name} ({format_some(list(order))}); name all its texts"
            )
            raise DataError(msg)
    return np.array([*(rank.get(text, np.nan) for text in column.texts), np.nan])


def _row_at(columns: Columns, place: int) -> int:
    """Return the number of the row that lies at a place of arranged columns."""
    assert columns.places is not None
    return int(np.flatnonzero(columns.places == place)[0])


def _numbers(
    columns: Columns, name: str, training: Rows, wanted: Encode
) -> dict[str, Any]:
    column, order = columns.found[name], wanted.ordinal.get(name)
    values = columns.take(name, training)
    if order is not None:
        values = _ranks(columns, name, order)[values]
    values = values.astype(np.float64, copy=False)
    absent = np.isnan(values)
    if absent.all():
        msg = (
            f"{columns.where}: column {format_value(name)} has no value in any "
            f"training row; leave it out with drop=[{name}]"
        )
        raise DataError(msg)
    if np.isinf(values).any():
        row = int(training[np.flatnonzero(np.isinf(values))[0]])
        msg = (
            f"{columns.place(row)}: column {format_value(name)} is infinite there; "
            "correct it"
        )
        raise DataError(msg)
    known = values[~absent] if absent.any() else values
    fill = float(np.median(known) if wanted.missing == "median" else known.mean())
    del known  # as large as the column
    values[absent] = fill
    made: dict[str, Any] = {"column": name, "kind": column.kind, "fill": fill}
    if order is not None:
        made |= {"kind": "ordinal", "order": list(order)}
    parts = values[None]
    if column.kind == "date":
        parts = _all_parts_of(values)
        kept = [k for k in range(len(DATE_PARTS)) if np.ptp(parts[k]) > 0] or [0]
        made["parts"] = [DATE_PARTS[k] for k in kept]
        parts = parts[kept]
    mean, std = np.zeros(len(parts)), np.ones(len(parts))
    if wanted.scaled:
        mean[:] = [part.mean() for part in parts]
        std[:] = [part.std() or 1.0 for part in parts]
    return made | {
        "mean": mean.tolist(),
        "std": std.tolist(),
        "missing": bool(absent.any()),
    }


def _all_parts_of(days: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the parts of many dates, (5, n), computed in blocks."""
    parts = np.empty((len(DATE_PARTS), len(days)))
    for start in range(0, len(days), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        parts[:, block] = _parts_of(days[block]).T
    return parts


def _parts_of(days: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `DATE_PARTS` of days since 1970, (n, 5); weekdays count from Monday, 0."""
    moment = (days * 86_400_000).round().astype("datetime64[ms]")
    day, month, year = (moment.astype(f"datetime64[{unit}]") for unit in "DMY")
    number = day.astype(np.int64)
    columns = [
        year.astype(np.int64) + 1970,
        month.astype(np.int64) % 12 + 1,
        number - month.astype("datetime64[D]").astype(np.int64) + 1,
        (number + 3) % 7,
        (days - np.floor(days)) * 24,
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def input_names(encoding: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a name for each number that a row becomes, in their order.

    Columns that become codes are none of them.
    """
    found = []
    for one in flat(encoding):
        name = one["column"]
        if one["kind"] == "category":
            found += [f"{name}={text}" for text in one["categories"]]
        elif one["kind"] == "date":
            found += [f"{name}.{part}" for part in one["parts"]]
        else:
            found.append(name)
        found += [f"{name} missing"] * one["missing"]
    return found


def flat(encoding: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the columns that become numbers of one input together."""
    return [one for one in encoding if one["kind"] not in CODED]


def encoder(
    columns: Columns, encoding: Sequence[Mapping[str, Any]]
) -> Callable[[Rows], NDArray[np.float32]]:
    """Return a function from row numbers (n,) to their numbers, (n, inputs).

    A category that no training row has becomes zeros.
    """
    width, encoding = len(input_names(encoding)), flat(encoding)
    places = [_places(columns.found[one["column"]], one) for one in encoding]
    ranks = {
        one["column"]: _ranks(columns, one["column"], one["order"])
        for one in encoding
        if one["kind"] == "ordinal"
    }

    def encoded(rows: Rows) -> NDArray[np.float32]:
        made = np.zeros((len(rows), width), np.float32)
        at = 0
        for one, place in zip(encoding, places, strict=True):
            values = columns.take(one["column"], rows)
            if place is not None:
                count = len(one["categories"]) + one["missing"]
                code = place[values]
                known = np.flatnonzero(code >= 0)
                made[known, at + code[known]] = 1
                at += count
                continue
            if one["kind"] == "ordinal":
                values = ranks[one["column"]][values]
            at = _put(made, at, values.astype(np.float64), one)
        return made

    return encoded


def _places(column: Column, one: Mapping[str, Any]) -> NDArray[np.int64] | None:
    """Return the place of each code among a column's inputs, the missing one's last."""
    if one["kind"] != "category":
        return None
    number = {text: k for k, text in enumerate(one["categories"])}
    places = [number.get(text, -1) for text in column.texts]
    return np.array([*places, len(number) if one["missing"] else -1], np.int64)


def _put(
    made: NDArray[np.float32],
    at: int,
    values: NDArray[np.float64],
    one: Mapping[str, Any],
) -> int:
    """Write a column's numbers from an index on; return the index behind them."""
    absent = np.isnan(values)
    values[absent] = one["fill"]
    parts = values[:, None]
    if one["kind"] == "date":
        chosen = [DATE_PARTS.index(part) for part in one["parts"]]
        parts = _parts_of(values)[:, chosen]
    count = parts.shape[1]
    made[:, at : at + count] = (parts - one["mean"]) / one["std"]
    at += count
    if one["missing"]:
        made[:, at] = absent
        at += 1
    return at


def described(encoding: Sequence[Mapping[str, Any]]) -> str:
    """Return a line on which columns became what."""
    kinds = {
        "number": "numbers",
        "category": "categories",
        "ordinal": "ordered texts",
        "date": "dates",
    }
    parts = []
    for kind, what in kinds.items():
        names = [one["column"] for one in encoding if one["kind"] == kind]
        if names:
            parts.append(f"{what} {format_some(names)}")
    filled = [one["column"] for one in flat(encoding) if one["missing"]]
    text = f"{len(input_names(encoding))} inputs from {'; '.join(parts)}"
    text += f"; with missing values {format_some(filled)}" if filled else ""
    coded = [one for one in encoding if one["kind"] in CODED]
    each = [f"{one['column']} ({num_codes(one)})" for one in coded]
    coded_text = f"codes of {format_some(each)}" if each else ""
    return "; ".join(part for part in (text * bool(parts), coded_text) if part)
