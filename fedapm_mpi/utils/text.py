"""What a person wrote, cut to a length that fits into a message."""

from collections.abc import Iterable
from typing import Any

from fedapm_mpi.utils.terminal import printable

MAX_LENGTH = 80
"""Characters of a value in a message."""

MAX_LINE_LENGTH = 200
"""Characters of what somebody else's code says."""

MAX_ITEMS = 20
"""Sentences in a message."""


def truncate(text: str, longest: int = MAX_LENGTH) -> str:
    """Return a text, or its beginning and its length where it is longer."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}… ({len(text)} characters)"


def one_line(text: str, longest: int = MAX_LINE_LENGTH) -> str:
    """Return a text of any kind on one line without control characters, cut."""
    line = printable(" ".join(text[: 4 * longest].split()))
    if len(text) <= 4 * longest and len(line) <= longest:
        return line
    return f"{line[:longest]}… ({len(text)} characters)"


def format_value(value: Any, longest: int = MAX_LENGTH) -> str:
    """Return a value as a configuration has it, quoted and cut."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        inside = repr(value[: longest + 1])
        return inside if len(value) <= longest else truncate(f"'{value}'", longest)
    try:
        return truncate(repr(value), longest)
    except (RecursionError, ValueError):  # too deep, or an integer of too many digits
        return f"a value of type {type(value).__name__}"


def format_some(values: Iterable[Any], most: int = 8, longest: int = 60) -> str:
    """Return values in a row, each cut; of many only the first."""
    every = list(values)
    few = ", ".join(truncate(str(value), longest) for value in every[:most])
    more = len(every) - most
    return few + (f", … ({more} more)" if more > 0 else "")


def format_list(sentences: Iterable[str], most: int = MAX_ITEMS) -> str:
    """Return sentences one a line and indented; of many only the first."""
    every = list(sentences)
    told = [f"  {text}" for text in every[:most]]
    if len(every) > most:
        told.append(f"  and {len(every) - most} more")
    return "\n".join(told)
