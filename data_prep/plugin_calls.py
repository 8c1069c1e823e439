"""Sources, partitioners and shifts are called; what a user's own give is looked at."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.partitioners import Pool, partitioners
from data_prep.shifts import Clients, shifts
from data_prep.sources import Source, sources
from fedapm_mpi.data.table import Table
from fedapm_mpi.plugins.errors import PluginError, blame
from fedapm_mpi.plugins.names import user_plugin_label
from fedapm_mpi.registry import Registry
from fedapm_mpi.utils.text import one_line


def read(name: str, origin: Path, options: Mapping[str, Any]) -> Source:
    """Return what a source reads.

    Raises
    ------
    PartError
        If a user's own fails, or gives something else.
    """
    what, found = _call(sources, name, origin, **options)
    if what is not None and not isinstance(found, Source):
        msg = (
            f"{what} returned {type(found).__name__}; it must return a "
            "data_prep.sources.Source"
        )
        raise PluginError(msg)
    source: Source = found
    return source


def partition(
    name: str,
    pool: Pool,
    clients: int | None,
    rng: np.random.Generator,
    options: Mapping[str, Any],
) -> Sequence[NDArray[np.int64]]:
    """Return the samples of each client; which they are is not looked at here.

    Raises
    ------
    PartError
        If a user's own fails, or gives something else.
    """
    what, found = _call(partitioners, name, pool, clients, rng, **options)
    if what is not None and not _are_rows(found):
        msg = (
            f"{what} must return a list of integer arrays, the samples of each client, "
            f"not {one_line(repr(found))}"
        )
        raise PluginError(msg)
    parts: Sequence[NDArray[np.int64]] = found
    return parts


def shift(
    part: Mapping[str, Any], table: Table, clients: Clients
) -> tuple[Table, Sequence[str]]:
    """Return the table that a shift gives, and a note on each client.

    Raises
    ------
    PartError
        If a user's own fails, or gives something else.
    """
    options = {key: value for key, value in part.items() if key != "name"}
    what, found = _call(shifts, part["name"], table, clients, **options)
    if what is not None and not _is_shifted(found, table, clients):
        msg = (
            f"{what} must return a data_prep.shifts.Shifted: a table of as many "
            f"samples, and a note (a string) for each of the {clients.number} clients; "
            f"it returned {type(found).__name__}"
        )
        raise PluginError(msg)
    changed: Table = found[0]
    notes: Sequence[str] = found[1]
    return changed, notes


def _call(
    registry: Registry[Any], part: str, /, *args: Any, **options: Any
) -> tuple[str | None, Any]:
    """Return what messages call a part if it is the user's own, and what it gave."""
    what = user_plugin_label(registry.kind, part)
    with blame(what):
        return what, registry.get(part)(*args, **options)


def _are_rows(parts: Any) -> bool:
    return isinstance(parts, list | tuple) and all(
        isinstance(rows, np.ndarray) and rows.ndim == 1 and rows.dtype.kind in "iu"
        for rows in parts
    )


def _is_shifted(found: Any, table: Table, clients: Clients) -> bool:
    if not isinstance(found, tuple) or len(found) != 2:
        return False
    changed, notes = found
    return (
        isinstance(changed, Table)
        and len(changed.labels) == len(table.labels)
        and isinstance(notes, list | tuple)
        and len(notes) == clients.number
        and all(isinstance(note, str) for note in notes)
    )
