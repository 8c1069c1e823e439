"""Arrays and columns that nothing reads, which may be misspelt."""

from collections.abc import Sequence
from difflib import get_close_matches

from fedapm_mpi.utils.text import format_some, format_value

MEANT = {
    "label": "y", "labels": "y", "target": "y", "targets": "y",
    "user": "client", "users": "client", "subject": "client", "owner": "client",
    "person": "client", "patient": "client", "speaker": "client", "writer": "client",
    "hospital": "client", "school": "client", "site": "client", "device": "client",
    "fold": "split", "partition": "split", "classes": "class_names",
}  # fmt: skip
"""Other words for what is read."""

NEAR = 0.8
"""How alike names must be to ask whether one was meant, 1 being the same."""


def unread(
    names: Sequence[str], known: Sequence[str], where: str, what: str
) -> tuple[str, ...]:
    """Return a sentence that names what nothing reads, or nothing.

    Parameters
    ----------
    names
        What there is.
    known
        What would be read.
    where
        Where they are.
    what
        What they are: array or column.
    """
    extra = [name for name in names if name not in known]
    if not extra:
        return ()
    plural = f"{what}s" if len(extra) > 1 else what
    said = f"{where}: nothing reads the {plural} {format_some(extra)}"
    hint = hints(names, known)
    return (f"{said} ({hint})" if hint else said,)


def hints(names: Sequence[str], known: Sequence[str]) -> str:
    """Return which known names that are missing may be meant by unknown ones."""
    absent = {name.lower(): name for name in known if name not in names}
    found = []
    for name in (name for name in names if name not in known):
        plain = name.lower().strip()[:100]
        near = get_close_matches(plain, list(absent), n=1, cutoff=NEAR)
        meant = absent[near[0]] if near else MEANT.get(plain, "")
        if meant in absent.values():
            found.append(f"{format_value(name)}: did you mean {meant!r}?")
    return "; ".join(found[:4])
