"""Labels of samples, checked, and the classes that they stand for."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.sample_fields import (
    as_integers,
    first_repeated,
    kind_of,
    last_part,
    missing,
    one_axis,
    texts,
)
from fedapm_mpi.errors import DataError
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.text import format_some, format_value


class Labels(NamedTuple):
    """Labels from 0, and what they stand for."""

    codes: NDArray[Any]
    """(n,) integers from 0."""

    classes: tuple[str, ...]
    note: str
    """How classes were made of values; empty if the labels were used as they are."""


def labels(values: Any, where: str, names: Sequence[str] | None = None) -> Labels:
    """Return labels from 0 and the classes.

    Integers from 0 to K - 1 are used as they are. Without `names`, the distinct values
    are the classes, in order: of integers that have gaps or begin elsewhere, of truth
    values, and of texts.

    Parameters
    ----------
    values
        One entry for each sample: ``(n,)`` or ``(n, 1)``.
    where
        What to call them in messages, such as ``made.npz: 'y'``.
    names
        Names of the classes if they are given: integers index them, texts are of them.

    Raises
    ------
    DataError
        If there are none, or an entry is missing, no whole number, or out of range.
    """
    y = one_axis(values)
    if y is None or not len(y):
        raise DataError(_no_labels(values, where))
    if y.dtype.kind in "SUT":
        return _named_labels(texts(y, where), where, names)
    if y.dtype.kind == "b" and names is None:
        return _distinct(y, where, "are true or false")
    if y.dtype.kind in "biuf":
        return _numbered_labels(as_integers(y, where, "label"), where, names)
    raise DataError(_no_labels(values, where))


def class_names(values: Any, where: str) -> tuple[str, ...]:
    """Return the names of the classes, checked to be distinct and not empty."""
    y = one_axis(values)
    if y is None or not len(y) or y.dtype.kind not in "SUTiub":
        msg = (
            f"{where} must be one text for each class, not {kind_of(values)}; "
            "save np.array(names, dtype=str)"
        )
        raise DataError(msg)
    given = texts(y, where) if y.dtype.kind in "SUT" else y
    names = tuple(str(value) for value in given.tolist())
    blank = [row for row, name in enumerate(names) if not name.strip()]
    if blank:
        msg = f"{where} is empty for class {blank[0]}; name every class"
        raise DataError(msg)
    twice = first_repeated(names)
    if twice is not None:
        msg = f"{where} names {format_value(twice)} twice; give each class its own name"
        raise DataError(msg)
    return names


def _numbered_labels(
    y: NDArray[Any], where: str, names: Sequence[str] | None
) -> Labels:
    least, most = int(y.min()), int(y.max())
    if names is not None:
        bad = np.flatnonzero((y < 0) | (y >= len(names)))
        if bad.size:
            count = (least, most) == (1, len(names))
            msg = (
                f"{where}: label {y[bad[0]]} of sample {bad[0]} is not in 0 to "
                f"{len(names) - 1}; correct {last_part(where)} or 'class_names'"
                + "; labels count from 0: subtract 1"
                * count
            )
            raise DataError(msg)
        return Labels(y, tuple(names), "")
    if least >= 0 and most < len(y) and np.bincount(y.astype(np.int64)).all():
        return Labels(y, tuple(map(str, range(most + 1))), "")
    note = "do not run from 0 without gaps"
    negative = int((y < 0).sum())
    made = _distinct(y, where, note)
    if negative and made.classes != ("-1", "1"):
        made = made._replace(
            note=f"{made.note}; this takes {least} for a class: if it stands for a "
            f"missing label, leave out these samples ({negative} labels are negative)"
        )
    return made


def _distinct(y: NDArray[Any], where: str, why: str) -> Labels:
    found, codes = np.unique(y, return_inverse=True)
    classes = tuple(str(value) for value in found.tolist())
    if all(re.fullmatch(r"-?\d{1,18}", name) for name in classes):
        # Texts of numbers are put in the order of these.
        order = sorted(range(len(classes)), key=lambda k: int(classes[k]))
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        codes, classes = place[codes], tuple(classes[k] for k in order)
    many = f"the {len(classes)} distinct values are the classes"
    made = many if len(classes) > 1 else "the only value is the only class"
    note = f"the entries of {last_part(where)} {why}: {made} ({format_some(classes)})"
    return Labels(codes.reshape(-1).astype(np.int64, copy=False), classes, note)


def _named_labels(y: NDArray[Any], where: str, names: Sequence[str] | None) -> Labels:
    if names is None:
        absent = np.flatnonzero(missing(y))
        if absent.size:
            msg = (
                f"{where}: {len(absent)} of {len(y)} samples have no label, the first "
                f"is sample {absent[0]} ({str(y[absent[0]])!r}); leave these samples "
                "out, or list the classes in 'class_names'"
            )
            raise DataError(msg)
        return _distinct(y, where, "are texts")
    found, codes = np.unique(y, return_inverse=True)
    number = {name: k for k, name in enumerate(names)}
    unknown = [k for k, name in enumerate(found.tolist()) if name not in number]
    if unknown:
        row = int(np.flatnonzero(np.isin(codes.reshape(-1), unknown))[0])
        value = str(y[row])
        hint = did_you_mean(value[:200], list(names[:1000]))
        msg = (
            f"{where} of sample {row} is {format_value(value)}, which is not among the "
            f"{len(names)} class names{hint}"
        )
        raise DataError(msg)
    place = np.array([number[name] for name in found.tolist()], np.int64)
    return Labels(place[codes.reshape(-1)], tuple(names), "")


def _no_labels(values: Any, where: str) -> str:
    msg = f"{where} must be one integer label for each sample, not {kind_of(values)}"
    if not isinstance(values, np.ndarray):
        return msg
    if values.ndim == 2 and values.shape[1] > 1 and values.dtype.kind in "biuf":
        hot = ((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all()
        if hot:
            return f"{msg}; it looks one-hot: save np.argmax(y, axis=1)"
        kind = "binary" if ((values == 0) | (values == 1)).all() else "real"
        return f"{msg}; for several targets of a sample set target={kind}"
    if values.dtype.kind == "O":
        return f"{msg}; save np.asarray(y, dtype=str) or dtype=int"
    return msg
