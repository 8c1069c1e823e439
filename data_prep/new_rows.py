"""Rows of a table that came later, as a data set has those that it was made of."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.table_columns import read_columns
from data_prep.table_like import Like, read_like
from data_prep.table_roles import encoded_inputs
from fedapm_mpi.data.manifest import InputSpec, Manifest
from fedapm_mpi.data.number_types import is_floating, stored
from fedapm_mpi.data.table import Column
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.text import format_some, format_value


class NewRows(NamedTuple):
    """Inputs of n rows, as a data set stores them."""

    inputs: dict[str, NDArray[Any]]
    """By name, (n, *shape)."""

    lengths: dict[str, NDArray[np.int64]]
    """True lengths (n,) of the ragged ones."""

    kept: dict[str, list[str]]
    """Columns that were to be kept, by name."""


def read_new_rows(
    path: Path,
    manifest: Manifest,
    *,
    keep: Sequence[str] = (),
    tokenizer: str | None = None,
) -> NewRows:
    """Return the rows of a table as a data set has the rows that it was made of.

    Parameters
    ----------
    path
        A file of `prepare table`, or a folder of such, with the columns of inputs.
    manifest
        The data set.
    keep
        Further columns whose entries are returned as texts.
    tokenizer
        What takes texts apart, which is needed if it has columns of texts.

    Raises
    ------
    DataError
        If a column is not there, a value is missing or of another type.
    ConfigError
        If the data set was not made of columns alone.
    """
    like = read_like(manifest.directory, tokenizer=tokenizer)
    _check(like)
    wanted = [*like.inputs, *(name for name in keep if name not in like.inputs)]
    columns, names = read_columns(path, wanted, [*like.as_text, *keep])
    for name in wanted:
        if name not in names:
            msg = (
                f"{path} has no column {format_value(name)}"
                f"{did_you_mean(name, list(names))} (it has: {format_some(names)})"
            )
            raise DataError(msg)
    like.check(columns)
    x = next((spec.name for spec in manifest.inputs if not spec.codes), "x")
    made = encoded_inputs(columns, like.encoding, x, tokenizer)
    rows = np.arange(columns.rows)
    specs = {spec.name: spec for spec in manifest.inputs}
    kept = {
        name: ["" if k < 0 else one.texts[k] for k in one.values.tolist()]
        for name, one in ((name, columns.found[name]) for name in keep)
    }
    return NewRows(
        {one.spec.name: _as_stored(one, specs[one.spec.name], rows) for one in made},
        {
            one.spec.name: np.asarray(one.lengths, np.int64)
            for one in made
            if one.lengths is not None
        },
        kept,
    )


def _check(like: Like) -> None:
    """Refuse a data set whose inputs do not follow from columns alone."""
    manifest = like.manifest
    shifts = [one["name"] for one in manifest.preparation.get("shift", [])]
    if shifts:
        msg = (
            f"{manifest.directory} was changed by shift={shifts[0]}, which new rows "
            "cannot be; predict for its own samples with --part"
        )
        raise ConfigError(msg)
    made = sum(one["kind"] in ("ids", "text") for one in like.encoding)
    made += any(one["kind"] not in ("ids", "text") for one in like.encoding)
    if made != len(manifest.inputs):
        msg = (
            f"{manifest.directory} has inputs that are not made of columns of numbers "
            "and texts; predict for its own samples with --part"
        )
        raise ConfigError(msg)


def _as_stored(
    column: Column, spec: InputSpec, rows: NDArray[np.int64]
) -> NDArray[Any]:
    """Return an input in the type in which the data set has it."""
    values = column.fetch(rows)
    if values.dtype == spec.stored_type:
        return values
    if spec.dtype == "int8":
        steps = np.rint(values.astype(np.float64) / spec.scale)
        return np.clip(steps, -127, 127).astype(np.int8)
    return stored(values, spec.dtype) if is_floating(spec.dtype) else values
