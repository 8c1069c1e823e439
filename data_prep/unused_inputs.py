"""Notes on arrays and columns that are not used, which may be misspelt."""

from collections.abc import Sequence
from difflib import get_close_matches

from fedapm_mpi.utils.text import format_some, format_value

MEANT = {
    "label": "y", "labels": "y", "target": "y", "targets": "y",
    "user": "client", "users": "client", "subject": "client", "owner": "client",
    "person": "client", "patient": "client", "speaker": "client", "writer": "client",
    "hospital": "client", "school": "client", "site": "client", "device": "client",
    "fold": "split", "partition": "split", "classes": "class_names",
    "weights": "weight", "sample_weight": "weight", "sample_weights": "weight",
}  # fmt: skip
"""Other words for known names."""

MIN_SIMILARITY = 0.8
"""Similarity of names from which on one is suggested; 1 for equal names."""


def unused(
    names: Sequence[str], known: Sequence[str], where: str, what: str
) -> tuple[str, ...]:
    """Return a sentence on names that are not used, if there are any.

    Parameters
    ----------
    names
        Names that exist.
    known
        Names that are used.
    where
        File of the names, for the sentence.
    what
        Kind of the names: array or column.
    """
    extra = [name for name in names if name not in known]
    if not extra:
        return ()
    plural = f"{what}s" if len(extra) > 1 else what
    note = f"{where}: nothing reads the {plural} {format_some(extra)}"
    hint = hints(names, known)
    return (f"{note} ({hint})" if hint else note,)


def hints(names: Sequence[str], known: Sequence[str]) -> str:
    """Suggest known names that are missing for unknown ones."""
    absent = {name.lower(): name for name in known if name not in names}
    found = []
    for name in (name for name in names if name not in known):
        plain = name.lower().strip()[:100]
        near = get_close_matches(plain, list(absent), n=1, cutoff=MIN_SIMILARITY)
        meant = absent[near[0]] if near else MEANT.get(plain, "")
        if meant in absent.values():
            found.append(f"{format_value(name)}: did you mean {meant!r}?")
    return "; ".join(found[:4])
