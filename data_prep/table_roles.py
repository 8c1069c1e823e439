"""From columns with roles to a source: a target, a client, a group, a split, inputs.

All columns that have no other role are inputs: numbers as they are, texts as one input
for each category, as ranks or as codes, dates as their parts. What that takes (means,
categories, what missing values become) is of training rows alone, and kept in the
manifest.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep import sample_fields as checked
from data_prep.combinations import combined
from data_prep.distinct import distinct
from data_prep.labels import labels as labels_of
from data_prep.regression_labels import looks_like_a_quantity
from data_prep.sources.base import Source
from data_prep.table_codes import CODED, code_reader, code_spec, spec_of
from data_prep.table_columns import Column as TableColumn
from data_prep.table_columns import Columns, others
from data_prep.table_encoding import Encode, described, encoder, fit, input_names
from data_prep.table_like import Like
from data_prep.table_texts import Tokenizer, text_column
from data_prep.targets import Kind, counted
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.table import MAX_WEIGHT, Column, Table
from fedapm_mpi.data.target import TargetValues
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.text import format_some, format_value

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Roles:
    """What each column is for; see the source `table`."""

    target: tuple[str, ...]
    kind: Kind | None = None
    client: str | tuple[str, ...] | None = None
    group: str | None = None
    split_column: str | None = None
    inputs: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    encode: Encode = field(default_factory=Encode)
    weight: str | None = None
    incomplete: bool = False

    def __post_init__(self) -> None:
        if self.client == ():
            msg = "client names no column; name one or several, or leave it out"
            raise ConfigError(msg)
        if self.inputs and self.drop:
            msg = (
                "drop has no effect with inputs, which names all columns that are read "
                "as such; leave drop out"
            )
            raise ConfigError(msg)

    @property
    def clients(self) -> tuple[str, ...]:
        """The columns that name the client of a row, if there are any."""
        if self.client is None:
            return ()
        return (self.client,) if isinstance(self.client, str) else self.client

    def as_text(self) -> list[str]:
        """Return the columns that are read as texts, whatever they look like."""
        return [*self.texts(), *self.encode.as_text()]

    def texts(self) -> list[str]:
        """Return the columns whose entries name clients, groups or parts."""
        roles = (*self.clients, self.group, self.split_column)
        return [name for name in roles if name is not None]

    def named(self) -> list[str]:
        """Return the columns that have a role by name."""
        return [*self.target, *self.texts(), *self.numbers(), *self.inputs]

    def numbers(self) -> list[str]:
        """Return the columns of numbers that are no inputs."""
        return [] if self.weight is None else [self.weight]

    def chosen(self, names: Sequence[str]) -> list[str]:
        """Return the inputs among all columns."""
        used = {*self.target, *self.texts(), *self.numbers(), *self.drop}
        return list(self.inputs) or [name for name in names if name not in used]

    def check(self, where: str, names: Sequence[str]) -> None:
        """Check that every column is there, and has one role.

        Raises
        ------
        DataError
            If not, or if no column is left as an input.
        """
        single = {
            "group": self.group,
            "split_column": self.split_column,
            "weight": self.weight,
        }
        lists = {
            "target": self.target,
            "inputs": self.inputs,
            "drop": self.drop,
            "client": self.clients,
        }
        _check_names(where, names, lists, single)
        chosen = self.chosen(names)
        if not chosen:
            msg = f"{where}: no column is left as an input; name fewer in drop"
            raise DataError(msg)
        self._check_encoded(where, chosen)

    def _check_encoded(self, where: str, chosen: Sequence[str]) -> None:
        """Check that columns with an encoding of their own are inputs."""
        for role, wanted in (
            ("ordinal", list(self.encode.ordinal)),
            ("ids", self.encode.ids),
            ("text", self.encode.text),
        ):
            for name in wanted:
                if name not in chosen:
                    hint = did_you_mean(name, list(chosen))
                    msg = (
                        f"{where}: {role} names {format_value(name)}, which is no "
                        f"input{hint} (inputs: {format_some(chosen)})"
                    )
                    raise DataError(msg)
        encode = self.encode
        twice = checked.first_repeated([*encode.ids, *encode.ordinal, *encode.text])
        if twice is not None:
            msg = (
                f"{where}: {format_value(twice)} is named twice by ids, ordinal and "
                "text; name it once"
            )
            raise DataError(msg)


def source_of(
    columns: Columns,
    names: Sequence[str],
    roles: Roles,
    dataset: str,
    where: str,
    arrays: Mapping[str, Column] | None = None,
    like: Like | None = None,
) -> Source:
    """Return the source that columns make by their roles.

    Parameters
    ----------
    columns
        Those that were read.
    names
        Names of all columns of the table, and of `arrays`.
    roles
        What they are for.
    dataset
        Name of the data set.
    where
        What to call the table in messages.
    arrays
        Inputs that are not encoded, by the column that they are of.
    like
        Another data set, whose encoding and classes are taken.

    Raises
    ------
    DataError
        If a column is not there, has two roles, or lacks a value that it needs.
    """
    roles.check(where, names)
    own = arrays or {}
    chosen = roles.chosen(names)
    coded: tuple[str, ...] = (*roles.encode.ids, *roles.encode.text)
    if like is not None:
        like.check(columns)
        coded = tuple(one["column"] for one in like.encoding if one["kind"] in CODED)
    flat = [name for name in chosen if name not in own]
    numeric = [name for name in flat if name not in coded]
    kept = [own[name] for name in chosen if name in own]
    what, codes, classes, values, notes = _target(columns, roles)
    if like is not None and values is not None:
        like.check_target(roles.target)
    elif like is not None:
        codes = like.codes(codes, classes, columns.where)
        classes = like.manifest.classes
    weights = None if roles.weight is None else _weights(columns, roles.weight)
    for one in roles.target:
        columns.found[one].release()
    x = "columns" if "x" in own or "x" in coded else "x"
    inputs = [Column(_spec(x, 1), _not_fitted)] * bool(numeric)
    codes_of = [Column(spec_of(name, 1), _not_fitted) for name in coded]

    def fitted(made: Table, training: Rows) -> Table:
        encoding = (
            fit(columns, flat, training, roles.encode)
            if like is None
            else like.encoding
        )
        found = encoded_inputs(columns, encoding, x, roles.encode.tokenizer)
        return replace(made, columns=[*found, *kept], encoding=encoding)

    made = Table(
        dataset,
        [*inputs, *codes_of, *kept],
        codes,
        classes,
        target=values,
        weights=weights,
    )
    source = Source(
        made,
        (*columns.files, *([] if like is None else [like.file])),
        fit=fitted if flat else None,
        arrange=(lambda order: columns.arrange(flat, order)) if flat else None,
        describe=(lambda done: described(done.encoding)) if flat else None,
        notes=(*notes, f"target {format_some(roles.target)} ({what})"),
        warnings=_suspicious(columns, numeric),
        client_hint="client=COLUMN names them",
    )
    return _with_roles(source, columns, roles)


def encoded_inputs(
    columns: Columns,
    encoding: Sequence[Mapping[str, Any]],
    name: str,
    tokenizer: str | None,
) -> list[Column]:
    """Return the inputs that encoded columns become: numbers, then codes of each."""
    width = len(input_names(encoding))
    found = [Column(_spec(name, width), encoder(columns, encoding))] * bool(width)
    coded = [one for one in encoding if one["kind"] in CODED]
    texts = any(one["kind"] == "text" for one in coded)
    made = Tokenizer(str(tokenizer)) if texts else None
    for one in coded:
        if one["kind"] == "text":
            assert made is not None
            found.append(text_column(columns, one, made))
        else:
            found.append(Column(code_spec(one), code_reader(columns, one)))
    return found


def _spec(name: str, width: int) -> InputSpec:
    """Return the input that numbers of columns become."""
    return InputSpec(name, (width,), "float32")


def _not_fitted(rows: Rows) -> NDArray[Any]:
    msg = "columns of a table are read before they are fitted"
    raise AssertionError(msg)


def _check_names(
    where: str,
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
                    f"{where} has no column {format_value(name)} ({role}){hint} "
                    f"(it has: {format_some(list(names))})"
                )
                raise DataError(msg)
            if name in seen:
                msg = (
                    f"{where}: column {format_value(name)} is named by {seen[name]} "
                    f"and {role}; give it one role"
                )
                raise DataError(msg)
            seen[name] = role


def _weights(columns: Columns, name: str) -> NDArray[np.float64]:
    """Return the weight of each row, which must be positive."""
    column = columns.found[name]
    if column.kind != "number":
        msg = (
            f"{columns.where}: the column of weights {format_value(name)} has "
            f"{column.kind}s, not numbers"
        )
        raise DataError(msg)
    weights = np.array(column.values, np.float64)
    bad = np.flatnonzero(~((weights > 0) & (weights <= MAX_WEIGHT)))
    if bad.size:
        msg = (
            f"{columns.place(int(bad[0]))}: the weight {format_value(name)} has no "
            f"number above 0 there{others(len(bad) - 1)}; leave out rows that count "
            "for nothing"
        )
        raise DataError(msg)
    column.release()
    return weights


def _target(
    columns: Columns, roles: Roles
) -> tuple[str, NDArray[Any], tuple[str, ...], TargetValues | None, tuple[str, ...]]:
    """Return what the target is, codes of rows, their names, and targets if any."""
    names = roles.target
    found = [columns.found[name] for name in names]
    if roles.incomplete:
        _check_any(columns, names, found)
    else:
        for name, column in zip(names, found, strict=True):
            _check_whole(columns, name, column)
    kind = roles.kind or _kind_of(found)
    where = f"{columns.where}: column {format_value(names[0])}"
    if kind == "class":
        if len(names) > 1:
            msg = (
                f"{columns.where}: a class is one column, but target names "
                f"{len(names)}; set kind=binary for labels that apply or not"
            )
            raise DataError(msg)
        column = found[0]
        values: NDArray[Any] = column.values
        if column.classes:
            return "classes", values.astype(np.int32), column.texts, None, ()
        if column.kind == "text":
            present, codes = distinct(values)
            classes = tuple(column.texts[k] for k in present.tolist())
            return "classes", np.array(codes, np.int32), classes, None, ()
        made = labels_of(values.astype(np.float64), where)
        notes = (made.note,) if made.note else ()
        return "classes", made.codes.astype(np.int32), made.classes, None, notes
    texts = [name for name, one in zip(names, found, strict=True) if one.kind == "text"]
    if texts:
        msg = (
            f"{columns.where}: column {format_value(texts[0])} has texts, but the "
            f"target is {kind}; give numbers, or set kind=class"
        )
        raise DataError(msg)
    array = np.stack([one.values for one in found], axis=1, dtype=np.float64)
    done = counted(array, kind, columns.where, names, roles.incomplete)
    what = "real" if kind == "real" else "labels that apply or not"
    return what, done.codes, done.ranges, done.target, ()


def _kind_of(found: Sequence[TableColumn]) -> Kind:
    """Return what columns look like as targets."""
    if any(one.kind == "text" for one in found):
        return "class"
    if len(found) > 1:
        known = [one.values[~np.isnan(one.values)] for one in found]
        both = all(np.isin(values, (0, 1)).all() for values in known)
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


def _check_any(
    columns: Columns, names: Sequence[str], found: Sequence[TableColumn]
) -> None:
    """Refuse rows without any of several targets, and targets that are classes."""
    texts = [name for name, one in zip(names, found, strict=True) if one.kind == "text"]
    if texts or len(found) == 1:
        why = f"{format_value(texts[0])} has texts" if texts else "target names one"
        msg = (
            f"{columns.where}: incomplete is for several columns of numbers as the "
            f"target, but {why}; leave it out"
        )
        raise DataError(msg)
    absent = np.logical_and.reduce([np.isnan(one.values) for one in found])
    rows = np.flatnonzero(absent)
    if rows.size:
        msg = (
            f"{columns.place(int(rows[0]))}: none of the targets has a value there"
            f"{others(len(rows) - 1)}; leave such rows out"
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
    values = column.values
    # Whole numbers from a shorter range occur twice, which shows without sorting them.
    apart = not float(values.max()) - float(values.min()) + 1 < len(values)
    differ = apart and len(np.unique(values)) == len(values)
    column.release()
    return differ


def _with_roles(source: Source, columns: Columns, roles: Roles) -> Source:
    """Return a source with its clients, groups and split, where columns name them."""
    ids: Rows | None = None
    names: tuple[str, ...] = ()
    if roles.clients:
        found = [_codes(columns, name, "client") for name in roles.clients]
        ids, names = combined(found, columns.where)
    groups = None
    if roles.group is not None:
        groups, _ = _codes(columns, roles.group, "group")
        if ids is not None:
            groups = groups + ids * (int(groups.max()) + 1)
    split = None
    if roles.split_column is not None:
        codes, texts = _codes(columns, roles.split_column, "split")
        where = f"{columns.where}: column {format_value(roles.split_column)}"
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
    present, codes = distinct(column.values)
    names = tuple(column.texts[k] for k in present.tolist())
    if all(re.fullmatch(r"-?\d+\.0", text) for text in names):
        # What pandas makes of whole numbers where one was missing.
        names = tuple(text.removesuffix(".0") for text in names)
    found = codes.astype(np.int64)
    column.release()
    return found, names
