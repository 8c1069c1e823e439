"""A data set in memory or memory-mapped, before it is written. NumPy only."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.data.codes import code_fault
from fedapm_mpi.data.held_columns import held_fault
from fedapm_mpi.data.manifest import SPLITS, InputSpec
from fedapm_mpi.data.manifest_checks import input_error
from fedapm_mpi.data.number_types import all_finite, largest, numbers, pairs
from fedapm_mpi.data.target import TargetValues, check_target
from fedapm_mpi.errors import DataError

SHARD_BYTES = 256 * 2**20
"""Bytes of a shard at most, unless one client has more."""

BLOCK_BYTES = 8 * 2**20
"""Bytes of an input that are read and written at a time."""

MAX_WEIGHT = 1e30
"""Of a sample, so that sums of weights are finite."""

COUNTED_ROWS = 2**20
"""Rows whose labels are counted at a time, unless one client has more."""


@dataclass(frozen=True)
class Column:
    """One input to write, fetched by row so that it need not fit in memory twice.

    Attributes
    ----------
    spec
        Its name, shape and type.
    fetch
        Returns the rows (k, *shape) of the given row numbers (k,), as stored: of
        complex inputs the pairs (k, *shape, 2), of bfloat16 ones the bits; see
        `data.number_types`.
    lengths
        ``(N,)`` true lengths if the input is ragged.
    optional
        Whether samples may lack the input, which is a length of 0.
    held
        ``(m, columns)`` which columns, entries of the last axis, each client has; the
        others are blank. A single number is one column. All have all if None.
    """

    spec: InputSpec
    fetch: Callable[[NDArray[np.int64]], NDArray[Any]]
    lengths: NDArray[Any] | None = None
    optional: bool = False
    held: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Table:
    """All N samples of a data set, before they are given to clients.

    Attributes
    ----------
    dataset
        Its name.
    columns
        The inputs.
    labels
        ``(N,)`` classes of the samples.
    classes
        Names of the classes.
    target
        What models are to give, where it is not the class: labels are then ranges of
        it that samples are counted, and may be given to clients, by.
    weights
        ``(N,)`` weights of the samples in the loss, positive; all weigh the same if
        None.
    encoding
        How inputs were made of other columns, as plain values; kept in the manifest.
    numbers
        ``(N,)`` numbers that identify the samples wherever they are written; their
        rows in the table if None.
    """

    dataset: str
    columns: Sequence[Column]
    labels: NDArray[Any]
    classes: Sequence[str]
    numbers: NDArray[np.int64] | None = None
    target: TargetValues | None = None
    encoding: Sequence[Mapping[str, Any]] = ()
    weights: NDArray[np.float64] | None = None


def column(
    name: str,
    values: NDArray[Any],
    *,
    lengths: NDArray[Any] | None = None,
    scale: float = 1.0,
    shift: float = 0.0,
    codes: int = 0,
) -> Column:
    """Return the column of an array (N, *shape), in memory or memory-mapped.

    Complex values are stored as pairs of numbers of their precision.
    """
    is_complex = values.dtype.kind == "c"
    spec = InputSpec(
        name=name,
        shape=values.shape[1:],
        dtype=values.real.dtype.name if is_complex else values.dtype.name,
        ragged=lengths is not None,
        scale=scale,
        shift=shift,
        codes=codes,
        complex=is_complex,
    )
    if is_complex:
        return Column(spec, lambda rows: pairs(values[rows]), lengths)
    return Column(spec, lambda rows: values[rows], lengths)


def row_bytes(table: Table) -> int:
    """Return the bytes that one sample takes in a shard."""
    total = 4
    for c in table.columns:
        total += c.spec.stored_bytes + 4 * c.spec.ragged
    if table.target is not None:
        total += table.target.values[:1].nbytes
    return total + 8 * (table.weights is not None)


def check_description(
    dataset: str, inputs: Sequence[InputSpec], classes: Sequence[str]
) -> None:
    """Check the description of a data set: its name, inputs and classes.

    Raises
    ------
    DataError
        If an input cannot be stored, or inputs or classes are missing or repeated.
    """
    fault = next((found for spec in inputs if (found := input_error(spec))), None)
    names = [spec.name for spec in inputs]
    if not classes or not all(isinstance(name, str) for name in classes):
        fault = "classes must be named, each by a text"
    elif len(set(classes)) < len(classes):
        fault = "a class name is given twice; give each class a name of its own"
    elif not fault and (not names or len(set(names)) < len(names)):
        fault = "there must be inputs, each with a name of its own"
    if fault:
        msg = f"{dataset}: {fault}"
        raise DataError(msg)


def check_weights(weights: Any, number: int, where: str) -> None:
    """Check the weights of samples before they are written.

    Raises
    ------
    DataError
        If there is not one for each sample, or one is not positive and finite.
    """
    if not isinstance(weights, np.ndarray) or weights.shape != (number,):
        msg = f"{where}: there must be one weight for each of {number} samples"
        raise DataError(msg)
    if weights.dtype != np.float64:
        msg = f"{where}: weights are {weights.dtype}, not float64"
        raise DataError(msg)
    fault = weight_fault(weights)
    if fault:
        msg = f"{where}: {fault}; leave out samples that count for nothing"
        raise DataError(msg)


def weight_fault(weights: NDArray[np.float64]) -> str:
    """Return where the first weight is that cannot be; empty if there is none."""
    bad = np.flatnonzero(~((weights > 0) & (weights <= MAX_WEIGHT)))
    if not bad.size:
        return ""
    return (
        f"the weight of sample {bad[0]} is {weights[bad[0]]}, not above 0 and at most "
        f"{MAX_WEIGHT:g}"
    )


def check_table(
    table: Table, splits: Mapping[str, Sequence[NDArray[np.int64]]]
) -> None:
    """Check everything that can be checked before a sample is read.

    Raises
    ------
    DataError
        If labels, lengths or splits do not fit the table.
    """
    labels, classes = table.labels, len(table.classes)
    check_description(table.dataset, [c.spec for c in table.columns], table.classes)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        msg = f"{table.dataset}: labels must be one integer for each sample"
        raise DataError(msg)
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if bad.size:
        msg = (
            f"{table.dataset}: label {labels[bad[0]]} of sample {bad[0]} is not in "
            f"0 to {classes - 1}, as there are {classes} classes; correct the labels "
            "or the class names"
        )
        raise DataError(msg)
    if table.target is not None:
        check_target(table.target, len(labels), table.dataset)
    if table.weights is not None:
        check_weights(table.weights, len(labels), table.dataset)
    _check_lengths(table)
    if not {"train", "test"} <= splits.keys() <= set(SPLITS):
        msg = f"{table.dataset}: splits must be train, test and perhaps val"
        raise DataError(msg)
    if len({len(parts) for parts in splits.values()}) != 1:
        msg = f"{table.dataset}: every split must list the same clients"
        raise DataError(msg)
    fault = held_fault(table, len(splits["train"]))
    if fault:
        msg = f"{table.dataset}: {fault}"
        raise DataError(msg)
    _check_rows(table, splits)


def _check_lengths(table: Table) -> None:
    """Check that lengths are in range, one for each sample."""
    number = len(table.labels)
    for c in table.columns:
        if c.lengths is None:
            continue
        if len(c.lengths) != number:
            msg = (
                f"{table.dataset}: input {c.spec.name!r} has {len(c.lengths)} lengths "
                f"for {number} samples; give one for each sample"
            )
            raise DataError(msg)
        if np.ndim(c.lengths) != 1 or c.lengths.dtype.kind not in "iu":
            msg = (
                f"{table.dataset}: lengths of input {c.spec.name!r} must be one "
                f"integer for each sample, not {c.lengths.dtype}"
            )
            raise DataError(msg)
        least = 0 if c.optional else 1
        wrong = np.flatnonzero((c.lengths < least) | (c.lengths > c.spec.shape[0]))
        if wrong.size:
            msg = (
                f"{table.dataset}: input {c.spec.name!r} of sample {wrong[0]} has the "
                f"length {c.lengths[wrong[0]]}, not {least} to {c.spec.shape[0]}"
            )
            raise DataError(msg)


def _check_rows(
    table: Table, splits: Mapping[str, Sequence[NDArray[np.int64]]]
) -> None:
    """Check that the splits list existing samples."""
    number = len(table.labels)
    for split, parts in splits.items():
        for client, rows in enumerate(parts):
            # A negative row would be taken from the end.
            if len(rows) and not 0 <= rows.min() <= rows.max() < number:
                row = rows.min() if rows.min() < 0 else rows.max()
                msg = (
                    f"{table.dataset}: {split} of client {client} lists sample {row}, "
                    f"but there are samples 0 to {number - 1}"
                )
                raise DataError(msg)


def label_counts(table: Table, parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the ``(m, classes)`` histogram of the labels of each client's rows."""
    m, classes = len(parts), len(table.classes)
    ends = np.cumsum([len(rows) for rows in parts])
    found = [np.zeros((0, classes), np.int64)]
    first = 0
    while first < m:  # clients of about as many rows at a time
        done = ends[first - 1] if first else 0
        stop = max(first + 1, int(np.searchsorted(ends, done + COUNTED_ROWS)))
        own, number = parts[first:stop], stop - first
        owner = np.repeat(np.arange(number), [len(rows) for rows in own])
        cells = owner * classes + table.labels[np.concatenate(own)].astype(np.int64)
        counts = np.bincount(cells, minlength=number * classes)
        found.append(counts.reshape(number, classes))
        first = stop
    return np.concatenate(found)


def missing_inputs(
    table: Table, splits: Mapping[str, Sequence[NDArray[np.int64]]]
) -> dict[str, tuple[int, ...]]:
    """Return, by input, the clients none of whose samples has it, if there are any."""
    found = {}
    for c in table.columns:
        if c.lengths is None:
            continue
        has = [
            [bool((c.lengths[rows] > 0).any()) for rows in parts]
            for parts in splits.values()
        ]
        without = np.flatnonzero(~np.any(has, axis=0))
        if without.size:
            found[c.spec.name] = tuple(without.tolist())
    return found


def shard_ranges(sizes: NDArray[np.int64], shards: int | None) -> list[tuple[int, int]]:
    """Cut clients 0 … m - 1 into contiguous ranges of about equal size.

    Parameters
    ----------
    sizes
        ``(m,)`` bytes of each client.
    shards
        Number of ranges; if None, as many as keep them near 256 MiB.

    Raises
    ------
    DataError
        If there are fewer clients than shards are wanted.
    """
    m, total = len(sizes), int(sizes.sum())
    if shards is None:
        shards = min(m, -(-total // SHARD_BYTES) or 1)
    if not 1 <= shards <= m:
        msg = (
            f"cannot cut {m} clients into {shards} shards; "
            f"choose shards from 1 to {m}, as a client lies in one file"
        )
        raise DataError(msg)
    k = np.arange(1, shards)
    stops = np.searchsorted(np.cumsum(sizes), total * k / shards) + 1
    # At least one client in each: strictly rising, with room left for the rest.
    stops = np.maximum.accumulate(stops - k) + k
    stops = np.minimum(stops, m - shards + k)
    bounds = [0, *stops.tolist(), m]
    return list(pairwise(bounds))


def iter_blocks(
    column: Column, rows: NDArray[np.int64], number: int | None = None
) -> Iterator[NDArray[Any]]:
    """Yield the rows of a column in blocks of some MiB, checked.

    Parameters
    ----------
    column
        The input.
    rows
        ``(k,)`` samples to yield.
    number
        Number of all samples, of which an error says how many are not finite; those of
        `rows` are counted if None.

    Raises
    ------
    DataError
        If a block differs from the column's specification, or has a value that is not
        finite.
    """
    spec = column.spec
    for wanted in _cut(spec, rows):
        block = fetch_checked(column, wanted)
        if not all_finite(block, spec.dtype):
            msg = _not_finite(column, rows if number is None else np.arange(number))
            raise DataError(msg)
        _check_range(spec, block, wanted)
        fault = code_fault(spec, block, wanted) if spec.codes else ""
        if fault:
            msg = f"{fault}; correct the codes, or their number"
            raise DataError(msg)
        yield block


def fetch_checked(column: Column, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return rows of a column as an array that is as `column` says.

    Raises
    ------
    DataError
        If it is of another shape or type, or has masked values.
    """
    spec, found = column.spec, column.fetch(rows)
    block = np.asarray(found)
    shape, kind = (len(rows), *spec.stored_shape), spec.stored_type
    if block.shape != shape or block.dtype != kind:
        pairs_of = "pairs of complex numbers, " if spec.complex else ""
        msg = (
            f"input {spec.name!r} should give {pairs_of}{kind} of shape {shape}, but "
            f"gives {block.dtype} of {block.shape}"
        )
        raise DataError(msg)
    if np.ma.is_masked(found):
        masked = np.ma.getmaskarray(found).reshape(len(rows), -1).any(axis=1)
        msg = (
            f"input {spec.name!r} of sample {rows[masked][0]} has masked values; fill "
            "them, or drop that sample in the source"
        )
        raise DataError(msg)
    return block


def _check_range(spec: InputSpec, block: NDArray[Any], rows: NDArray[np.int64]) -> None:
    """Refuse values that are infinite as float32, in which models see them."""
    limit, most = float(np.finfo(np.float32).max), largest(spec.dtype)
    with np.errstate(over="ignore"):
        if not block.size or most * abs(spec.scale) + abs(spec.shift) <= limit:
            return
        values = numbers(block, spec.dtype).reshape(len(rows), -1).astype(np.float64)
        large = np.abs(values * spec.scale + spec.shift).max(axis=1) > limit
    if large.any():
        row = np.min(rows[large])
        msg = (
            f"input {spec.name!r} of sample {row} has a value beyond {limit:.2g} as a "
            "model sees it (float32); divide the values, or correct their scale"
        )
        raise DataError(msg)


def _cut(spec: InputSpec, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield rows in runs that take some MiB."""
    step = max(1, BLOCK_BYTES // max(1, spec.stored_bytes))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def _not_finite(column: Column, rows: NDArray[np.int64]) -> str:
    """Return how many samples are not finite, and where the first of them is not."""
    found, spec = [], column.spec
    for wanted in _cut(spec, rows):
        finite = np.isfinite(numbers(fetch_checked(column, wanted), spec.dtype))
        found.append(wanted[~finite.reshape(len(wanted), -1).all(axis=1)])
    faulty = np.unique(np.concatenate(found))
    first = int(faulty[0])
    values = numbers(fetch_checked(column, faulty[:1])[0], spec.dtype)
    at = np.argwhere(~np.isfinite(values))[0].tolist()
    part = ""
    if spec.complex:
        part = f" in the {('real', 'imaginary')[at.pop()]} part"
    where = (f" at [{', '.join(map(str, at))}]" if at else "") + part
    remedy = "repair or drop such samples in the source"
    if column.lengths is not None and at[0] >= column.lengths[first]:
        remedy = f"its length is {column.lengths[first]}, so fill the rest with 0"
    return (
        f"input {spec.name!r} is NaN or infinite in {len(faulty)} of "
        f"{len(np.unique(rows))} samples, the first is sample {first}{where}; {remedy}"
    )
