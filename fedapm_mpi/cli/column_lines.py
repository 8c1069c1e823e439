"""Lines on which clients have which columns of an input."""

from collections.abc import Sequence

from fedapm_mpi.data.manifest import InputSpec, Manifest
from fedapm_mpi.utils.text import format_ids, format_some

MAX_LINES = 8
"""Different sets of columns that are shown."""

MAX_COLUMNS = 16
"""Columns of a set that are shown by name."""


def column_lines(manifest: Manifest, spec: InputSpec) -> list[str]:
    """Return a line for each set of columns of an input, with the clients that have it.

    Columns have the names that a table gave them, or their numbers.
    """
    clients: dict[tuple[int, ...], list[int]] = {}
    for client, held in enumerate(manifest.columns.get(spec.name, ())):
        clients.setdefault(held, []).append(client)
    names = _names(manifest, spec)
    lines = [
        f"client{'s' * (len(own) > 1)} {format_ids(own)} of it: "
        + (_columns(held, names, spec) if held else "nothing")
        for held, own in clients.items()
    ]
    more = len(lines) - MAX_LINES
    return lines[:MAX_LINES] + [f"and {more} other sets of columns"] * (more > 0)


def _columns(held: Sequence[int], names: Sequence[str], spec: InputSpec) -> str:
    if not spec.shape:
        return "all"
    if not names:
        return f"columns {format_ids(held)}"
    own = dict.fromkeys(names[k] for k in held)  # each once, in order
    return format_some(own, MAX_COLUMNS)


def _names(manifest: Manifest, spec: InputSpec) -> list[str]:
    """Return the table's column that each column was made of; empty without a table."""
    from data_prep.table_encoding import input_names

    encoding = manifest.encoding
    names = [str(one["column"]) for one in encoding for _ in input_names([one])]
    first = manifest.inputs[0].name == spec.name
    return names if first and spec.shape == (len(names),) else []
