"""Arrays and columns that nothing reads, which may be misspelt."""

from collections.abc import Sequence

from fedapm_mpi.registry import did_you_mean

from .values import shortened, shown

MEANT = {
    "label": "y", "labels": "y", "target": "y", "targets": "y",
    "user": "client", "users": "client", "subject": "client", "owner": "client",
    "fold": "split", "partition": "split", "classes": "class_names",
}  # fmt: skip
"""Other words for what is read."""


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
    absent = [name for name in known if name not in names]
    hints = []
    for name in extra:
        word = MEANT.get(name.lower().strip(), "")
        near = f"; did you mean {word!r}?" if word in absent else ""
        near = near or did_you_mean(name.strip()[:100], absent)
        if near:
            hints.append(f"{shortened(name)!r}{near.replace(';', ':', 1)}")
    plural = f"{what}s" if len(extra) > 1 else what
    said = f"{where}: nothing reads the {plural} {shown(extra)}"
    return (f"{said} ({'; '.join(hints[:4])})" if hints else said,)
