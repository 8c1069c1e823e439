"""Clients, splits and lengths, one entry for each sample, checked.

Each function takes an array as a user saved it, and returns it in the type that is used
from there on, or refuses it with its name, a row and the value. Time and memory depend
on the number of entries, not on their values.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.data.manifest import SPLITS
from fedapm_mpi.data.table import check_weights
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.text import format_some, format_value, truncate

MISSING = ("nan", "NaN", "NAN", "None", "NaT", "<NA>", "N/A", "null", "NULL")
"""Texts that Python, NumPy, pandas and databases write where a value is missing."""

MAX_EXACT_INTEGER = 2**53
"""Whole numbers up to here are exact as float64."""

PARTS = {
    "train": 0, "training": 0,
    "test": 1, "testing": 1,
    "val": 2, "valid": 2, "validation": 2, "dev": 2,
}  # fmt: skip
"""Usual names of the parts of a split, in lower case, and their codes."""

SPLIT_NAMES = PARTS | {"0": 0, "1": 1, "2": 2}


class Named(NamedTuple):
    """Entries that name something, such as clients."""

    names: tuple[str, ...]
    codes: NDArray[np.int64]
    """(n,) number of each entry's name."""

    note: str
    """How names differ from the values; empty if they do not."""


def identifiers(values: Any, where: str, what: str = "client") -> Named:
    """Return the distinct entries as names, and the number of each entry's.

    Parameters
    ----------
    values
        ``(n,)`` or ``(n, 1)``: texts, integers, truth values, dates, or floats, of
        which whole ones are named as integers are.
    where, what
        Names of the array and of an entry, for messages.

    Raises
    ------
    DataError
        If an entry is missing (NaN, NaT, an empty text, or one of `MISSING`).
    """
    y, note = one_axis(values), ""
    if y is None or y.dtype.kind not in "SUTbiufM":
        msg = (
            f"{where} must be one text or number for each sample, not "
            f"{kind_of(values)}; save np.asarray({what}, dtype=str)"
        )
        raise DataError(msg)
    absent = np.asarray(np.ma.getmaskarray(values)).reshape(-1)
    if y.dtype.kind in "SUT":
        y = texts(y, where)
        absent = absent | missing(y)
    elif y.dtype.kind in "fM":
        absent = absent | ~np.isfinite(y)
    if absent.any():
        rows = np.flatnonzero(absent)
        value = truncate(repr(y[rows[0]].item()))
        msg = (
            f"{where}: {len(rows)} of {len(y)} samples have no {what}, the first is "
            f"sample {rows[0]} ({value}); name one for each, or leave these samples out"
        )
        raise DataError(msg)
    if y.dtype.kind == "f":
        _check_apart(y, where, what)
    if y.dtype.kind == "f" and (y == np.rint(y)).all():
        y = y.astype(np.int64)
        note = (
            f"{last_part(where)} holds whole numbers as {values.dtype}: they are named "
            "without a decimal point"
        )
    found, codes = np.unique(y, return_inverse=True)
    names = tuple(str(value) for value in found)
    return Named(names, codes.reshape(-1).astype(np.int64, copy=False), note)


def _check_apart(y: NDArray[Any], where: str, what: str) -> None:
    """Refuse floats so large that two whole numbers may have become the same."""
    limit = max_exact_integer(y.dtype)
    large = np.flatnonzero((np.abs(y) >= limit) & np.isfinite(y))
    if large.size:
        row = large[0]
        msg = (
            f"{where} of sample {row} is {y[row]}: {y.dtype} does not hold every whole "
            f"number from {limit} on, so that one {what} may stand for several; save "
            "them as integers"
        )
        raise DataError(msg)


def max_exact_integer(dtype: "np.dtype[Any]") -> int:
    """Return up to where a floating type has all whole numbers, at most 2^53."""
    bits = int(np.finfo(dtype).nmant) + 1
    return min(MAX_EXACT_INTEGER, 1 << bits)


def lookalikes(names: Sequence[str], what: str) -> str:
    """Return a question on two names that look alike, or an empty text.

    Very short names are not compared: "A" and "a" are classes of characters.
    """
    seen: dict[str, str] = {}
    for name in (name for name in names if len(name) > 2):
        plain = unicodedata.normalize("NFC", name).casefold()
        other = seen.setdefault(" ".join(plain.split()), name)
        if other is not name:
            pair = f"{format_value(other)} and {format_value(name)}"
            return (
                f"the {what} {pair} differ only in case, spaces or how accents are "
                "encoded: are they the same?"
            )
    return ""


def split_codes(values: Any, where: str) -> NDArray[np.int8]:
    """Return 0 (train), 1 (test) or 2 (val) for each sample, from numbers or names.

    Raises
    ------
    DataError
        If an entry is none of these.
    """
    y = one_axis(values)
    if y is None or y.dtype.kind not in "SUTiuf":
        also = "; of truth values it is not known which is test" * _is_bool(values)
        msg = (
            f"{where} must be {_parts()} for each sample, not {kind_of(values)}{also}; "
            "save np.where(is_test, 1, 0)"
        )
        raise DataError(msg)
    if y.dtype.kind in "SUT":
        found, codes = np.unique(texts(y, where), return_inverse=True)
        of_name = [SPLIT_NAMES.get(str(n).strip().casefold(), -1) for n in found]
        y = np.array(of_name, np.int8)[codes.reshape(-1)]
    bad = np.flatnonzero(~np.isin(y, (0, 1, 2)))
    if bad.size:
        row = bad[0]
        value = np.asarray(values).reshape(-1)[row].item()
        msg = f"{where} of sample {row} is {format_value(value)}; it must be {_parts()}"
        raise DataError(msg)
    return y.astype(np.int8)


def as_integers(values: NDArray[Any], where: str, what: str) -> NDArray[Any]:
    """Return whole numbers as integers; integers as they are.

    Raises
    ------
    DataError
        If an entry is NaN or no whole number.
    """
    if values.dtype.kind in "iu":
        return values
    if values.dtype.kind == "b":
        return values.astype(np.int64)
    if values.dtype.kind != "f":
        msg = f"{where} must be whole numbers, not {kind_of(values)}"
        raise DataError(msg)
    absent = np.flatnonzero(np.isnan(values))
    if absent.size:
        msg = (
            f"{where}: {len(absent)} of {len(values)} samples have no {what} (NaN), "
            f"the first is sample {absent[0]}; give one for each, or leave these "
            "samples out"
        )
        raise DataError(msg)
    _check_apart(values, where, what)
    odd = np.flatnonzero((values != np.rint(values)) | ~np.isfinite(values))
    if odd.size:
        msg = f"{where} of sample {odd[0]} is {values[odd[0]]}, no whole number"
        if what == "label":
            msg += (
                "; a label is an integer or a text; for a regression set target=real, "
                "for ranges cut the values into classes, as np.digitize does"
            )
        raise DataError(msg)
    return values.astype(np.int64)


def lengths(
    values: Any, where: str, least: int, longest: int, advice: str
) -> NDArray[Any]:
    """Return true lengths, one for each sample, as integers.

    Raises
    ------
    DataError
        If one is missing, no whole number, or not from `least` to `longest`.
    """
    y = one_axis(values)
    if y is None or y.dtype.kind not in "iuf":
        msg = (
            f"{where} must be one whole number for each sample, not {kind_of(values)}; "
            "save it as integers"
        )
        raise DataError(msg)
    y = as_integers(y, where, "length")
    bad = np.flatnonzero((y < least) | (y > longest))
    if bad.size:
        msg = (
            f"{where}: the length {y[bad[0]]} of sample {bad[0]} is not in {least} to "
            f"{longest}, {advice}"
        )
        raise DataError(msg)
    return y


def sample_weights(values: Any, where: str) -> NDArray[np.float64]:
    """Return weights, one for each sample.

    Raises
    ------
    DataError
        If one is missing, or not positive and finite.
    """
    y = one_axis(values)
    if y is None or y.dtype.kind not in "iuf":
        msg = f"{where} must be one number for each sample, not {kind_of(values)}"
        raise DataError(msg)
    found = np.ma.filled(y.astype(np.float64), np.nan)
    check_weights(found, len(found), where)
    return found


def one_axis(values: Any) -> NDArray[Any] | None:
    """Return ``(n,)`` entries of ``(n,)`` or ``(n, 1)``; None for other shapes."""
    if not isinstance(values, np.ndarray):
        return None
    if values.ndim == 2 and values.shape[1] == 1:
        return values.reshape(-1)
    return values if values.ndim == 1 else None


def texts(y: NDArray[Any], where: str) -> NDArray[Any]:
    """Return texts as NumPy's fixed-width ones; bytes are taken for UTF-8."""
    if y.dtype.kind == "S":
        try:
            return np.char.decode(y, "utf-8")
        except UnicodeDecodeError as error:
            msg = f"{where} holds bytes that are not UTF-8 ({error}); save it as texts"
            raise DataError(msg) from None
    return y.astype(str) if y.dtype.kind == "T" else y


def missing(entries: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which texts are blank or stand for a missing value."""
    found, codes = np.unique(np.asarray(entries), return_inverse=True)
    absent = [name.strip() in ("", *MISSING) for name in found.tolist()]
    return np.array(absent, bool)[codes.reshape(-1)]


def _parts() -> str:
    return ", ".join(f"{code} ({name})" for code, name in enumerate(SPLITS))


def _is_bool(values: Any) -> bool:
    return isinstance(values, np.ndarray) and values.dtype.kind == "b"


def is_missing(value: Any) -> bool:
    """Return whether a name is blank, or stands for a missing value."""
    if isinstance(value, (str, np.datetime64)) or type(value).__name__ in (
        "NAType",
        "NaTType",
    ):
        return str(value).strip() in ("", *MISSING)
    return False


def first_repeated(names: Sequence[str]) -> str | None:
    """Return the first name that occurs a second time; None without one."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def control_characters(name: str) -> str:
    """Return the characters of a name that cannot be shown, escaped; empty if none."""
    if name.isprintable():
        return ""
    found = [c for c in name if unicodedata.category(c) in ("Cc", "Cs")]
    return format_some(ascii(c) for c in found)


def writable(text: str) -> str:
    """Return a text that UTF-8 can hold, such as a file name with other bytes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def last_part(where: str) -> str:
    """Return the part after the file in a name such as ``made.npz: 'y'``.

    The manifest has this part, since it does not depend on a file's location.
    """
    return where.rpartition(": ")[2]


def kind_of(values: Any) -> str:
    """Describe an array or another object in words."""
    if isinstance(values, np.ndarray):
        return f"{values.dtype} of shape {values.shape}"
    return f"a {type(values).__name__}"
