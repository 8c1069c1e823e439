"""A table with one sample a row: csv, tsv, parquet or feather, one file or many.

Columns have roles: the target, the client, a group, the split. All others are inputs:
numbers as they are, texts as one input for each category, dates as their parts. What
that takes (means, categories, what missing values become) is of training rows alone,
and kept in the manifest.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_prep import sample_fields as checked
from data_prep.labels import labels as labels_of
from data_prep.regression_labels import looks_like_a_quantity
from data_prep.sources.base import Source, sources
from data_prep.table_columns import Column as TableColumn
from data_prep.table_columns import Columns, others, read_columns
from data_prep.table_encoding import Missing, described, encoder, fit, input_names
from data_prep.targets import Kind, counted
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.table import Column, Table
from fedapm_mpi.data.target import TargetValues
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.text import format_some, format_value

Rows = NDArray[np.int64]


@sources.register("table")
def table(
    path: Path,
    *,
    target: str | tuple[str, ...],
    kind: Kind | None = None,
    client: str | None = None,
    group: str | None = None,
    split_column: str | None = None,
    inputs: tuple[str, ...] = (),
    drop: tuple[str, ...] = (),
    missing: Missing = "refuse",
    scale: Literal["pooled", "none"] = "pooled",
    name: str | None = None,
) -> Source:
    """Read samples from the rows of a table, by the roles of its columns.

    Split: that of the column `split_column`, if one is named.

    Parameters
    ----------
    path
        A .csv, .tsv, .parquet or .feather file, or a folder of such.
    target
        The column that models are to give; several of a list.
    kind
        What it is: ``class``, ``real`` numbers, or ``binary`` labels, a column each. By
        default texts, truth values and few different whole numbers are classes, other
        numbers real, and several columns of zeros and ones binary.
    client
        The column with the client of each row.
    group
        A column whose equal entries stay on one side of the split, such as the person
        of several rows; entries count within a client.
    split_column
        A column with train, test or val for each row.
    inputs
        The columns that models see; all that have no other role by default.
    drop
        Columns that are left out.
    missing
        What a missing number or date becomes: ``refuse``; or the ``mean`` or ``median``
        of the training rows, and one more input that says it was missing. A missing
        text is then a category.
    scale
        ``pooled`` gives numbers mean 0 and deviation 1 over all training rows; by
        client it is ``shift=standardise``, on top of either.
    name
        Name of the data set; that of the file if None.

    Raises
    ------
    ConfigError
        If both inputs and columns to drop are given.
    DataError
        If a column is not there, a value is missing, or a file cannot be read.
    """
    if inputs and drop:
        msg = (
            "drop has no effect with inputs, which names all columns that are read as "
            "such; leave drop out"
        )
        raise ConfigError(msg)
    targets = (target,) if isinstance(target, str) else tuple(target)
    roles = {"client": client, "group": group, "split_column": split_column}
    named = [one for one in roles.values() if one is not None]
    wanted = [*targets, *named, *inputs] if inputs else None
    columns, names = read_columns(path, wanted, named)
    _check_names(
        path, names, {"target": targets, "inputs": inputs, "drop": drop}, roles
    )
    used = {*targets, *named, *drop}
    chosen = list(inputs) or [column for column in names if column not in used]
    if not chosen:
        msg = f"{path}: no column is left as an input; name fewer in drop"
        raise DataError(msg)
    what, codes, classes, values, notes = _target(columns, targets, kind)

    def fitted(made: Table, training: Rows) -> Table:
        encoding = fit(
            columns, chosen, training, missing=missing, scaled=scale == "pooled"
        )
        spec = InputSpec("x", (len(input_names(encoding)),), "float32")
        rows = encoder(columns, encoding)
        return replace(made, columns=[Column(spec, rows)], encoding=encoding)

    placeholder = Column(InputSpec("x", (1,), "float32"), _not_fitted)
    made = Table(name or path.stem, [placeholder], codes, classes, target=values)
    source = Source(
        made,
        columns.files,
        fit=fitted,
        describe=lambda done: described(done.encoding),
        notes=(*notes, f"target {format_some(targets)} ({what})"),
        warnings=_suspicious(columns, chosen),
        client_hint="client=COLUMN names them",
    )
    return _with_roles(source, columns, client, group, split_column)


def _not_fitted(rows: Rows) -> NDArray[Any]:
    msg = "columns of a table are read before they are fitted"
    raise AssertionError(msg)


def _check_names(
    path: Path,
    names: Sequence[str],
    lists: dict[str, tuple[str, ...]],
    roles: dict[str, str | None],
) -> None:
    """Check that every column is there, and has one role."""
    given = {**lists, **{k: (v,) for k, v in roles.items() if v is not None}}
    seen: dict[str, str] = {}
    for role, wanted in given.items():
        for name in wanted:
            if name not in names:
                hint = did_you_mean(name, list(names))
                msg = (
                    f"{path} has no column {format_value(name)} ({role}){hint} "
                    f"(it has: {format_some(list(names))})"
                )
                raise DataError(msg)
            if name in seen:
                msg = (
                    f"{path}: column {format_value(name)} is named by {seen[name]} and "
                    f"{role}; give it one role"
                )
                raise DataError(msg)
            seen[name] = role


def _target(
    columns: Columns, names: tuple[str, ...], kind: Kind | None
) -> tuple[str, NDArray[Any], tuple[str, ...], TargetValues | None, tuple[str, ...]]:
    """Return what the target is, codes of rows, their names, and targets if any."""
    found = [columns.found[name] for name in names]
    for name, column in zip(names, found, strict=True):
        _check_whole(columns, name, column)
    kind = kind or _kind_of(found)
    where = f"{columns.files[0]}: column {format_value(names[0])}"
    if kind == "class":
        if len(names) > 1:
            msg = (
                f"{columns.files[0]}: a class is one column, but target names "
                f"{len(names)}; set kind=binary for labels that apply or not"
            )
            raise DataError(msg)
        column = found[0]
        values: NDArray[Any] = column.values
        if column.kind == "text":
            codes = np.unique(values, return_inverse=True)
            classes = tuple(column.texts[k] for k in codes[0].tolist())
            return "classes", codes[1].reshape(-1), classes, None, ()
        made = labels_of(values.astype(np.float64), where)
        notes = (made.note,) if made.note else ()
        return "classes", made.codes, made.classes, None, notes
    texts = [name for name, one in zip(names, found, strict=True) if one.kind == "text"]
    if texts:
        msg = (
            f"{columns.files[0]}: column {format_value(texts[0])} has texts, but the "
            f"target is {kind}; give numbers, or set kind=class"
        )
        raise DataError(msg)
    array = np.stack([one.values.astype(np.float64) for one in found], axis=1)
    done = counted(array, kind, str(columns.files[0]), names)
    what = "real" if kind == "real" else "labels that apply or not"
    return what, done.codes, done.ranges, done.target, ()


def _kind_of(found: Sequence[TableColumn]) -> Kind:
    """Return what columns look like as targets."""
    if any(one.kind == "text" for one in found):
        return "class"
    if len(found) > 1:
        both = all(np.isin(one.values, (0, 1)).all() for one in found)
        return "binary" if both else "real"
    values = found[0].values
    if found[0].kind == "date" or (values % 1 != 0).any():
        return "real"
    distinct, counts = np.unique(values.astype(np.int64), return_counts=True)
    quantity = looks_like_a_quantity(distinct.tolist(), counts.tolist())
    return "real" if quantity else "class"


def _check_whole(columns: Columns, name: str, column: TableColumn) -> None:
    """Refuse rows without a target, or with one that is not finite."""
    values = column.values
    absent = values < 0 if column.kind == "text" else ~np.isfinite(values)
    rows = np.flatnonzero(absent)
    if rows.size:
        msg = (
            f"{columns.place(int(rows[0]))}: the target {format_value(name)} has no "
            f"value there{others(len(rows) - 1)}; leave such rows out"
        )
        raise DataError(msg)


def _suspicious(columns: Columns, chosen: Sequence[str]) -> tuple[str, ...]:
    """Return a question on whole numbers that differ in every row."""
    found = [name for name in chosen if _counts_rows(columns.found[name])]
    return tuple(
        f"column {format_value(name)} has another whole number in every row: if it "
        f"only counts them, leave it out with drop=[{name}]"
        for name in found
    )


def _counts_rows(column: TableColumn) -> bool:
    if not column.whole or len(column.values) < 2:
        return False
    differ = len(np.unique(column.values)) == len(column.values)
    column.release()
    return differ


def _with_roles(
    source: Source,
    columns: Columns,
    client: str | None,
    group: str | None,
    split_column: str | None,
) -> Source:
    """Return a source with its clients, groups and split, where columns name them."""
    ids: Rows | None = None
    names: tuple[str, ...] = ()
    if client is not None:
        ids, names = _codes(columns, client, "client")
    groups = None
    if group is not None:
        groups, _ = _codes(columns, group, "group")
        if ids is not None:
            groups = groups + ids * (int(groups.max()) + 1)
    split = None
    if split_column is not None:
        codes, texts = _codes(columns, split_column, "split")
        where = f"{columns.files[0]}: column {format_value(split_column)}"
        split = checked.split_codes(np.array(texts), where)[codes]
    return replace(source, ids=ids, id_names=names, groups=groups, split=split)


def _codes(columns: Columns, name: str, what: str) -> tuple[Rows, tuple[str, ...]]:
    """Return the code of each row, and what codes stand for; none may be missing."""
    column = columns.found[name]
    rows = np.flatnonzero(column.values < 0)
    if rows.size:
        msg = (
            f"{columns.place(int(rows[0]))}: column {format_value(name)} names no "
            f"{what} there{others(len(rows) - 1)}; name one for each row"
        )
        raise DataError(msg)
    names = column.texts
    if all(re.fullmatch(r"-?\d+\.0", text) for text in names):
        # What pandas makes of whole numbers where one was missing.
        names = tuple(text.removesuffix(".0") for text in names)
    return column.values.astype(np.int64), names
