"""Parts of a data set's split next to the one that a source reads."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from data_prep.sample_fields import PARTS

_SEPARATORS = re.compile(r"([-_. ])")


def unread_siblings(
    path: Path,
    advice: str,
    holds_data: Callable[[Path], bool] = Path.exists,
    always: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Return a note if `path` is one part of a split and others lie next to it.

    Parameters
    ----------
    path
        The file or the folder that is read.
    advice
        How to read all parts; ``{folder}`` stands for their folder.
    holds_data
        Whether a path exists and is worth a note.
    always
        Names to look for, whatever the name of `path`.
    """
    whole = path.resolve()
    for place in [whole] if whole.is_dir() else [whole, whole.parent]:
        names = {*_others(place.name), *always} - {place.name}
        found = sorted(n for n in names if _there(place.parent / n, holds_data))
        if found:
            verb = "is" if len(found) == 1 else "are"
            return (
                f"{' and '.join(found)} next to {place.name} in {place.parent} {verb} "
                f"not read: {advice.format(folder=place.parent)}",
            )
    return ()


def _there(path: Path, holds_data: Callable[[Path], bool]) -> bool:
    try:
        return holds_data(path)
    except OSError:  # not readable
        return False


def _others(name: str) -> Iterator[str]:
    """Yield the name with the word for its part replaced by those for other parts."""
    words = _SEPARATORS.split(name)
    for place, word in enumerate(words):
        code = PARTS.get(word.lower())
        if code is None:
            continue
        for other, other_code in PARTS.items():
            if other_code != code:
                styled = _in_style_of(word, other)
                yield "".join([*words[:place], styled, *words[place + 1 :]])


def _in_style_of(word: str, other: str) -> str:
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other
