"""Check what a source returns, be it built in or a user's."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from data_prep.regression_labels import looks_like_a_quantity
from data_prep.sample_fields import (
    MISSING,
    as_integers,
    control_characters,
    first_repeated,
    kind_of,
    lengths,
    lookalikes,
    one_axis,
    sample_weights,
    split_codes,
    writable,
)
from data_prep.sources.base import Source
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.manifest_checks import input_error
from fedapm_mpi.data.table import Column, Table
from fedapm_mpi.data.target import TargetValues, check_target
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.text import format_some, format_value, truncate

MAX_CLASSES = 2**20
"""Maximum number of classes of a data set."""

MAX_COUNTS = 2**25
"""Maximum number of clients times classes, whose counts a manifest has by split."""


def checked_source(source: Source, name: str) -> Source:
    """Return a checked source, with its arrays in the types that are used from here on.

    Parameters
    ----------
    source
        The result of a source.
    name
        Its name, for messages.

    Returns
    -------
    Source
        The same, with labels, clients, groups and split as integers, and with
        `warnings` on possible mistakes.

    Raises
    ------
    DataError
        If a value has a wrong type or length, is missing for a sample, or is out of
        range.
    """
    where = f"source {name!r}"
    table = _table(where, source.table)
    number = len(table.labels)
    ids, id_names = _clients(where, source, number)
    groups = split = None
    if source.groups is not None:
        groups = _each(f"{where}: groups", source.groups, number)
        groups = np.unique(groups, return_inverse=True)[1].reshape(-1)
    if source.split is not None:
        _rows(f"{where}: split", source.split, number)
        split = split_codes(_array(source.split), f"{where}: split")
    if source.default_split not in (None, "random", "own"):
        value = truncate(repr(source.default_split))
        _refuse(where, f"default_split is {value}, not 'random', 'own' or None")
    for shift in _sequence(f"{where}: shifts", source.shifts):
        if not isinstance(shift, Mapping) or not isinstance(shift.get("name"), str):
            _refuse(where, f"shifts must be mappings with a name, not {kind_of(shift)}")
    for key in ("skipped", "notes", "warnings"):
        for text in _sequence(f"{where}: {key}", getattr(source, key)):
            if not isinstance(text, str):
                _refuse(where, f"{key} must be texts, not {kind_of(text)}")
    for file in source.files:
        if not isinstance(file, Path):
            _refuse(where, f"files must be paths, not {kind_of(file)}")
    questions = [lookalikes(id_names, "clients"), lookalikes(table.classes, "classes")]
    if table.target is None:
        questions += [_quantity(table), _absent(table)]
    return replace(
        source,
        table=table,
        ids=ids,
        id_names=id_names,
        groups=groups,
        split=split,
        warnings=(*source.warnings, *filter(None, questions)),
    )


def check_size(clients: int, classes: int) -> None:
    """Refuse more clients times classes than a manifest can hold.

    Raises
    ------
    DataError
        If there are too many.
    """
    if clients * classes > MAX_COUNTS:
        msg = (
            f"{clients} clients and {classes} classes make a table of "
            f"{clients * classes} counts, more than the {MAX_COUNTS} that are "
            "supported; use fewer clients or classes"
        )
        raise DataError(msg)


def _table(where: str, table: Any) -> Table:
    """Return the table, checked, its labels as integers."""
    if not isinstance(table, Table):
        _refuse(where, f"its table is {kind_of(table)}, not a Table")
    if not isinstance(table.dataset, str) or not table.dataset.strip():
        _refuse(where, "its table needs the name of the data set, a text")
    classes = _names(f"{where}: classes", table.classes)
    if not 1 <= len(classes) <= MAX_CLASSES:
        _refuse(where, f"it has {len(classes)} classes, not 1 to {MAX_CLASSES}")
    y = one_axis(_array(table.labels))
    if y is None or not len(y) or y.dtype.kind not in "biuf":
        _refuse(
            where,
            "labels must be one integer for each sample, and there must be samples, "
            f"not {kind_of(table.labels)}",
        )
    _rows(f"{where}: labels", table.labels, len(y))
    y = as_integers(y, f"{where}: labels", "label")
    _check_range(where, "label", y, len(classes), "there are {} classes")
    columns = [_column(where, c, len(y)) for c in _sequence(where, table.columns)]
    names = [c.spec.name for c in columns]
    if not names or len(set(names)) < len(names):
        _refuse(where, f"inputs must be there, and named once each, not {names}")
    if table.target is not None:
        if not isinstance(table.target, TargetValues):
            _refuse(where, f"its target is {kind_of(table.target)}, not TargetValues")
        check_target(table.target, len(y), where)
    return replace(
        table,
        dataset=writable(table.dataset),
        labels=y,
        classes=classes,
        columns=columns,
        weights=_weights(where, table.weights, len(y)),
    )


def _weights(where: str, values: Any, number: int) -> NDArray[np.float64] | None:
    """Return the weights of samples, checked."""
    if values is None:
        return None
    _rows(f"{where}: weights", values, number)
    return sample_weights(_array(values), f"{where}: weights")


def _column(where: str, column: Any, number: int) -> Column:
    if not isinstance(column, Column) or not isinstance(column.spec, InputSpec):
        _refuse(where, f"each input must be a Column, not {kind_of(column)}")
    if not callable(column.fetch):
        _refuse(where, f"take must be a function of rows, not {kind_of(column.fetch)}")
    spec = column.spec
    fault = input_error(spec)
    if fault:
        _refuse(where, fault)
    where = f"{where}: input {format_value(spec.name)}"
    if spec.ragged != (column.lengths is not None):
        _refuse(where, f"ragged={spec.ragged} does not go with its lengths")
    if column.lengths is None:
        return column
    _rows(f"{where}: lengths", column.lengths, number)
    least = 0 if column.optional else 1
    made = lengths(
        _array(column.lengths),
        f"{where}: lengths",
        least,
        spec.shape[0],
        "the longest that its shape allows",
    )
    return replace(column, lengths=made)


def _clients(
    where: str, source: Source, number: int
) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Return the client of each sample and their names, if it names clients."""
    if source.ids is None:
        return None, ()
    ids = _each(f"{where}: ids", source.ids, number)
    names = _names(f"{where}: id_names", source.id_names)
    _check_range(where, "client", ids, len(names), "id_names has {} names")
    for client, name in enumerate(names):
        if name.strip() in MISSING:
            count = int((ids == client).sum())
            first = int(np.argmax(ids == client))
            _refuse(
                where,
                f"{count} of {number} samples have the client {name!r}, which stands "
                f"for a missing name, the first is sample {first}; name their clients",
            )
    return ids, names


def _check_range(
    where: str, what: str, codes: NDArray[Any], number: int, why: str
) -> None:
    """Check that codes are from 0 to `number` - 1."""
    bad = np.flatnonzero((codes < 0) | (codes >= number))
    if bad.size:
        _refuse(
            where,
            f"{what} {codes[bad[0]]} of sample {bad[0]} is not in 0 to {number - 1}, "
            f"as {why.format(number)}",
        )


def _each(where: str, values: Any, number: int) -> NDArray[np.int64]:
    """Return one integer for each sample."""
    _rows(where, values, number)
    y = one_axis(_array(values))
    if y is None or y.dtype.kind not in "iuf":
        msg = f"{where} must be one integer for each sample, not {kind_of(values)}"
        raise DataError(msg)
    return as_integers(y, where, "number").astype(np.int64, copy=False)


def _rows(where: str, values: Any, number: int) -> None:
    """Check that there is one entry for each sample, and none is masked."""
    made = _array(values)
    shape = getattr(made, "shape", None)
    if shape not in ((number,), (number, 1)):
        msg = (
            f"{where} must have one entry for each of {number} samples, not "
            f"{kind_of(values)}"
        )
        raise DataError(msg)
    absent = np.flatnonzero(np.ma.getmaskarray(made))
    if absent.size:
        msg = (
            f"{where}: {len(absent)} of {number} samples are masked, the first is "
            f"sample {absent[0]}; leave these samples out"
        )
        raise DataError(msg)


def _array(values: Any) -> Any:
    """Return lists and tuples as arrays where possible, anything else unchanged."""
    if not isinstance(values, (list, tuple)):
        return values
    try:
        return np.asarray(values)
    except (ValueError, OverflowError):  # Of several lengths, or beyond 64 bits.
        return values


def _names(where: str, values: Any) -> tuple[str, ...]:
    """Return names, checked to be distinct texts that are not blank."""
    names = _sequence(where, values)
    for place, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            msg = f"{where}: entry {place} is {truncate(repr(name))}, not a name"
            raise DataError(msg)
        odd = control_characters(name)
        if odd:
            msg = (
                f"{where}: the name {truncate(ascii(name))} has characters that "
                f"cannot be shown ({odd}); rename it"
            )
            raise DataError(msg)
    twice = first_repeated(names)
    if twice is not None:
        msg = f"{where}: {format_value(twice)} occurs twice; give each its own name"
        raise DataError(msg)
    return tuple(str(name) for name in names)


def _sequence(where: str, values: Any) -> Sequence[Any]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        msg = f"{where} must be a list or tuple, not {kind_of(values)}"
        raise DataError(msg)
    return values


def _absent(table: Table) -> str:
    """Return a sentence on classes that no sample has, or if all samples have one."""
    counts = np.bincount(table.labels.astype(np.int64), minlength=len(table.classes))
    without = [name for name, n in zip(table.classes, counts, strict=True) if not n]
    if len(table.classes) - len(without) == 1:
        name = table.classes[int(table.labels[0])]
        return f"all samples are of one class, {format_value(name)}"
    if not without:
        return ""
    classes = f"{len(without)} of {len(table.classes)} classes"
    return f"{classes} have no sample ({format_some(without)})"


def _quantity(table: Table) -> str:
    """Return a question if the labels look like the target of a regression."""
    try:
        # Beyond 18 digits they are codes.
        values = [int(name) for name in table.classes if len(name) < 18]
    except ValueError:
        return ""
    counts = np.bincount(table.labels.astype(np.int64), minlength=len(table.classes))
    pairs = sorted(zip(values, counts.tolist(), strict=False))
    present = [(value, count) for value, count in pairs if count]
    distinct = len({value for value, _ in present})
    if len(values) < len(table.classes) or distinct < len(present):
        return ""
    if not present or not looks_like_a_quantity(*zip(*present, strict=True)):
        return ""
    return (
        f"the labels are {len(present)} integers from {present[0][0]} to "
        f"{present[-1][0]}, with {counts.sum() / len(present):.1f} samples each on "
        "average: is it a regression? Each value is taken for a class of its own; to "
        "predict numbers, set target=real, where the source has it; for ranges, cut "
        "the values into a few classes, as np.digitize does"
    )


def _refuse(where: str, what: str) -> NoReturn:
    msg = f"{where}: {what}"
    raise DataError(msg)
