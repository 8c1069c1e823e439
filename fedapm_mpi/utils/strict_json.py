"""Strict reading of JSON, and JSON files with a checksum of their own content."""

import json
import re
import sys
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.utils.text import format_value

CHECKSUM = "checksum"
"""Last key of a sealed file: the SHA-256 of everything before its line."""

MAX_NUMBER = sys.float_info.max

MAX_DEPTH = 32
"""Levels of nesting that `check_plain` accepts."""

_LAST_LINE = re.compile(rb'\n"checksum": "([0-9a-f]{64})"\n\}\n\Z')


def encode(tree: Mapping[str, Any]) -> bytes:
    """Return a sealed JSON object, one line for each key: readable by eye."""
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in tree.items())
    body = ("{\n" + ",\n".join(lines) + ",\n").encode()
    return body + f'"{CHECKSUM}": "{sha256(body).hexdigest()}"\n}}\n'.encode()


def decode(raw: bytes) -> tuple[dict[str, Any], bool]:
    """Read a JSON object; compare its checksum if it is sealed.

    Returns
    -------
    dict
        The content, without the checksum.
    bool
        Whether it is sealed.

    Raises
    ------
    ValueError
        If it is not a JSON object in UTF-8, names a key twice, is nested too deeply, or
        has changed since it was sealed.
    """
    sealed = _LAST_LINE.search(raw)
    if sealed:
        body = raw[: sealed.start() + 1]
        if sha256(body).hexdigest() != sealed[1].decode():
            msg = "it has changed since it was written: its checksum differs"
            raise ValueError(msg)
    try:
        tree = json.loads(raw.decode(), object_pairs_hook=unique_keys)
    except RecursionError:
        msg = "it is nested too deeply"
        raise ValueError(msg) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        msg = f"it is not valid JSON: {error}"
        raise ValueError(msg) from None
    if not isinstance(tree, dict):
        msg = f"it is {format_value(tree)}, not an object"
        raise ValueError(msg)
    if not sealed and CHECKSUM in tree:
        msg = "it has changed since it was written: its checksum is not the last line"
        raise ValueError(msg)
    tree.pop(CHECKSUM, None)
    return tree, sealed is not None


def check_plain(value: Any, depth: int = 0) -> None:
    """Raise `ValueError` for values that cannot be sent, shown or written again.

    These are values that are nested too deeply, or texts that UTF-8 cannot encode.
    """
    if depth > MAX_DEPTH:
        msg = f"it is nested more than {MAX_DEPTH} levels deep"
        raise ValueError(msg)
    if isinstance(value, dict):
        for name in value:
            name.encode()
        value = list(value.values())
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, list):
        for one in value:
            check_plain(one, depth + 1)


def integer(value: Any, what: str, least: int = 0) -> int:
    """Return an integer, at least so large and no boolean; or raise `ValueError`."""
    if type(value) is not int or not least <= value < 2**63:
        msg = f"{what} is {format_value(value)}, not an integer from {least} on"
        raise ValueError(msg)
    return value


def number(value: Any, what: str) -> float:
    """Return a finite number, or raise `ValueError`."""
    if type(value) not in (int, float) or not abs(value) <= MAX_NUMBER:
        msg = f"{what} is {format_value(value)}, not a finite number"
        raise ValueError(msg)
    return float(value)


def text(value: Any, what: str) -> str:
    """Return a string that can be written as UTF-8, or raise `ValueError`."""
    if type(value) is not str:
        msg = f"{what} is {format_value(value)}, not a text"
        raise ValueError(msg)
    value.encode()
    return value


def list_of(value: Any, what: str) -> list[Any]:
    """Return a list, or raise `ValueError`."""
    if type(value) is not list:
        msg = f"{what} is {format_value(value)}, not a list"
        raise ValueError(msg)
    return value


def mapping(value: Any, what: str) -> dict[str, Any]:
    """Return an object, or raise `ValueError`."""
    if type(value) is not dict:
        msg = f"{what} is {format_value(value)}, not an object"
        raise ValueError(msg)
    return value


def integers(value: Any, what: str, levels: int = 1) -> NDArray[np.int64]:
    """Return a list of integers, or of lists of them, as an array.

    Raises
    ------
    ValueError
        If it is something else, or lists differ in length.
    OverflowError
        If an integer has more than 64 bits.
    """
    rows = [list_of(value, what)]
    if levels == 2:
        rows = [list_of(row, f"an entry of {what}") for row in value]
    for row in rows:
        for kind in set(map(type, row)) - {int}:
            first = next(one for one in row if type(one) is kind)
            msg = f"{what} has {format_value(first)}, not an integer"
            raise ValueError(msg)
    return np.array(value, np.int64)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's entries; raise `ValueError` if a key is there twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            msg = f"the key {format_value(key)} is given twice"
            raise ValueError(msg)
        found[key] = value
    return found
