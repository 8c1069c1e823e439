"""Texts and values, shortened to a length that fits into a message or a table."""

from collections.abc import Iterable
from typing import Any

from fedapm_mpi.utils.terminal import printable

MAX_LENGTH = 80
"""Characters of a value in a message."""

MAX_LINE_LENGTH = 200
"""Characters of a text from other code, such as an exception's."""

MAX_ITEMS = 20
"""Sentences in a message."""

MAX_CELL_LENGTH = 40
"""Characters of a name in a table or a figure."""


def truncate(text: str, longest: int = MAX_LENGTH) -> str:
    """Return a text, or, if it is too long, its beginning and its length."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}… ({len(text)} characters)"


def shorten(text: str, longest: int = MAX_CELL_LENGTH) -> str:
    """Return a text of at most `longest` characters, with an ellipsis if it is cut."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def one_line(text: str, longest: int = MAX_LINE_LENGTH) -> str:
    """Return a text on one line, without control characters, truncated."""
    line = printable(" ".join(text[: 4 * longest].split()))
    if len(text) <= 4 * longest and len(line) <= longest:
        return line
    return f"{line[:longest]}… ({len(text)} characters)"


def format_value(value: Any, longest: int = MAX_LENGTH) -> str:
    """Return a value as a configuration writes it, quoted and truncated."""
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
    """Return values separated by commas, each truncated; of many only the first."""
    every = list(values)
    few = ", ".join(truncate(str(value), longest) for value in every[:most])
    more = len(every) - most
    return few + (f", … ({more} more)" if more > 0 else "")


def format_list(sentences: Iterable[str], most: int = MAX_ITEMS) -> str:
    """Return sentences, one indented line each; of many only the first."""
    every = list(sentences)
    lines = [f"  {text}" for text in every[:most]]
    if len(every) > most:
        lines.append(f"  and {len(every) - most} more")
    return "\n".join(lines)


def format_ranges(parts: Iterable[range]) -> str:
    """Return ranges as text, such as ``"0-3,7"``."""
    return ",".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts)


def format_ids(ids: Iterable[int]) -> str:
    """Return ascending ids as text, such as ``"0-3,7,9-10"``."""
    found: list[range] = []
    for number in ids:
        if found and found[-1].stop == number:
            found[-1] = range(found[-1].start, number + 1)
        else:
            found.append(range(number, number + 1))
    return format_ranges(found)
