"""Targets of samples that are not one class: numbers, labels, a class at each place."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.distinct import distinct
from data_prep.sample_fields import kind_of, last_part
from fedapm_mpi.data.target import ABSENT, IGNORED, KINDS, TargetValues
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.text import format_value

Kind = Literal["class", "real", "binary", "dense"]

RANGES = 10
"""Ranges with equal numbers of samples in which real targets are counted."""


class Counted(NamedTuple):
    """Targets, and the ranges or labels that samples are counted by."""

    target: TargetValues
    codes: NDArray[np.int32]
    """(n,) number of each sample's range."""

    ranges: tuple[str, ...]
    """Their names."""


def has_fractions(values: Any) -> bool:
    """Return whether values are finite numbers that are not all whole, one a sample."""
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        return False
    alone = values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)
    return alone and bool(np.isfinite(values).all() and (values % 1 != 0).any())


def counted(
    values: Any,
    kind: Literal["real", "binary", "dense"],
    where: str,
    names: Sequence[str] = (),
    incomplete: bool = False,
) -> Counted:
    """Return targets as they are stored, and the ranges that samples are counted by.

    Real targets are counted in tenths by the first of them; samples of binary ones
    under the rarest of their labels, and of dense ones under their most frequent class.

    Parameters
    ----------
    values
        ``(n,)`` or ``(n, k)`` numbers or truth values; whole numbers up to 32 bits and
        halves are stored as float32 where that is exact. Dense: ``(n, positions, ...)``
        integers, the class of each position, negative where there is none.
    kind
        What they are.
    where
        What to call them in messages, such as ``made.npz: 'y'``.
    names
        Names of the k targets; ``target``, or ``target 0`` and so on, by default. Of
        the classes, if dense: ``0`` to the largest that occurs, by default.
    incomplete
        Whether samples may lack some of several targets, which are NaN or masked.

    Raises
    ------
    DataError
        If they are no numbers, there are none, one is missing or out of range, or names
        do not fit.
    """
    if kind == "dense":
        if incomplete:
            msg = f"{where}: incomplete has no effect with dense targets; leave it out"
            raise DataError(msg)
        return _dense(values, where, names)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        msg = f"{where} must be numbers for {kind} targets, not {kind_of(values)}"
        raise DataError(msg)
    made = values.reshape(-1, 1) if values.ndim == 1 else values
    if made.ndim != 2 or 0 in made.shape:
        msg = (
            f"{where} has shape {values.shape}; {kind} targets are (samples,) or "
            "(samples, targets)"
        )
        raise DataError(msg)
    number = made.shape[1]
    known = tuple(names) or tuple(
        "target" if number == 1 else f"target {k}" for k in range(number)
    )
    if len(known) != number:
        msg = f"{where} has {number} targets, but {len(known)} names"
        raise DataError(msg)
    if incomplete:
        return _incomplete(made, kind, where, known)
    _check(made, kind, where, known)
    if kind == "binary":
        target = TargetValues(kind, known, made.astype(np.uint8))
        return Counted(target, *_rarest(target))
    stored = made.astype(np.float32)
    # Compared as doubles, without a copy of either.
    if not np.equal(stored, made, signature="dd->?", casting="unsafe").all():
        stored = made.astype(np.float64, copy=False)
    return Counted(TargetValues(kind, known, stored), *_tenths(stored[:, 0]))


def _incomplete(
    values: NDArray[Any], kind: str, where: str, names: tuple[str, ...]
) -> Counted:
    """Return targets of which samples may lack some, counted by those that are there.

    Samples that lack the first of real targets are a range of their own.
    """
    given = np.ma.filled(values.astype(np.float64), np.nan)
    known = ~np.isnan(given)
    empty = np.flatnonzero(~known.any(axis=1))
    if empty.size:
        msg = (
            f"{where}: {len(empty)} of {len(given)} samples have no target at all, the "
            f"first is sample {empty[0]}; leave these samples out"
        )
        raise DataError(msg)
    _check(np.where(known, given, 0), kind, where, names)
    if kind == "binary":
        stored = np.where(known, given, ABSENT).astype(np.uint8)
        applies = TargetValues(kind, names, (stored == 1).astype(np.uint8))
        target = TargetValues(kind, names, stored, incomplete=True)
        return Counted(target, *_rarest(applies))
    target = TargetValues(kind, names, given, incomplete=True)
    first = known[:, 0]
    codes = np.zeros(len(given), np.int32)
    ranges: tuple[str, ...] = ()
    if first.any():
        codes[first], ranges = _tenths(given[first, 0])
    if not first.all():
        codes[~first] = len(ranges)
        ranges = (*ranges, f"no {names[0]}")
    return Counted(target, codes, ranges)


def _dense(values: Any, where: str, names: Sequence[str]) -> Counted:
    """Return dense targets as they are stored, in the smallest type."""
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iu":
        msg = f"{where} must be integers for dense targets, not {kind_of(values)}"
        raise DataError(msg)
    if values.ndim < 2 or 0 in values.shape:
        msg = (
            f"{where} has shape {values.shape}; dense targets are (samples, positions, "
            "...): the class of each position of a sample"
        )
        raise DataError(msg)
    most = int(values.max())
    known = tuple(names) or tuple(map(str, range(most + 1)))
    if most >= len(known):
        at = tuple(np.argwhere(values == most)[0].tolist())
        msg = (
            f"{where}: the class of sample {at[0]} at {list(at[1:])} is {most}, but "
            f"there are {len(known)} class names"
        )
        raise DataError(msg)
    if most < 0:
        msg = f"{where}: no position has a class"
        raise DataError(msg)
    types = (np.dtype(kind) for kind in KINDS["dense"])
    dtype = next(one for one in types if len(known) <= np.iinfo(one).max + 1)
    kept = np.maximum(values, IGNORED) if values.dtype.kind == "i" else values
    stored = kept.astype(dtype)
    return Counted(TargetValues("dense", known, stored), *_most_frequent(stored, known))


def _most_frequent(
    values: NDArray[Any], names: tuple[str, ...]
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Return the most frequent class of each sample, and names of those that occur.

    Of equally frequent ones it is the first.
    """
    found = np.full(len(values), IGNORED, np.int64)
    for row, own in enumerate(values):
        counts = np.bincount(own[own != IGNORED].astype(np.int64))
        if len(counts):
            found[row] = counts.argmax()
    present, codes = np.unique(found, return_inverse=True)
    none = "no class" if "no class" not in names else "none of the classes"
    labels = (none if k == IGNORED else names[k] for k in present.tolist())
    return codes.reshape(-1).astype(np.int32), tuple(labels)


def _check(values: NDArray[Any], kind: str, where: str, names: tuple[str, ...]) -> None:
    """Refuse values that are missing or out of range."""
    absent = np.ma.getmaskarray(values)
    if values.dtype.kind == "f":
        absent = absent | ~np.isfinite(np.asarray(values))
    if absent.any():
        row, column = np.argwhere(absent)[0].tolist()
        rows = int(absent.any(axis=1).sum())
        msg = (
            f"{where}: {rows} of {len(values)} samples have no finite target, the "
            f"first is sample {row} (target {format_value(names[column])}); leave "
            "these samples out"
        )
        raise DataError(msg)
    if kind == "binary":
        odd = (values != 0) & (values != 1)
        if odd.any():
            row, column = np.argwhere(odd)[0].tolist()
            msg = (
                f"{where}: label {format_value(names[column])} of sample {row} is "
                f"{values[row, column]}, not 0 or 1; for numbers set target=real"
            )
            raise DataError(msg)


def _tenths(values: NDArray[Any]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Return the range of each value, and the ranges' names."""
    inner = np.arange(1, RANGES) / RANGES
    # Values that occur, so that no range is empty.
    edges = np.unique(np.quantile(values, inner, method="higher"))
    edges = edges[edges > values.min()]
    codes = np.searchsorted(edges, values, side="right").astype(np.int32)
    if not len(edges):
        return codes, (f"{values[0]:.6g}",)
    for digits in range(4, 18):
        texts = [f"{edge:.{digits}g}" for edge in edges]
        if len(set(texts)) == len(texts):
            break
    names = [f"below {texts[0]}"]
    names += [f"{a} to {b}" for a, b in pairwise(texts)]
    return codes, (*names, f"from {texts[-1]}")


def _rarest(target: TargetValues) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Return the rarest label of each sample, and names of those that occur as such."""
    values = target.values
    order = np.argsort(values.sum(axis=0, dtype=np.int64), kind="stable")
    ranked = np.column_stack([values[:, order], np.ones(len(values), np.uint8)])
    first = ranked.argmax(axis=1)
    present, codes = distinct(first)
    names = [*(target.names[k] for k in order), "no label"]
    if "no label" in target.names:
        names[-1] = "none of the labels"
    return codes.astype(np.int32), tuple(names[k] for k in present)


def made_real(where: str) -> str:
    """Return a note that fractions were taken for real targets."""
    return (
        f"the entries of {last_part(where)} are not whole numbers: they are the real "
        "target of a regression; train with task=regression"
    )
