"""Call sources, partitioners and shifts, and check what a user's plug-in returns."""

from collections.abc import Callable, Mapping, Sequence
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
    PluginError
        If a user's source fails, or returns anything else.
    """
    source: Source = _call(
        sources,
        name,
        (origin,),
        options,
        accepts=lambda found: isinstance(found, Source),
        fault=lambda found: (
            f"returned {type(found).__name__}; it must return a "
            "data_prep.sources.Source"
        ),
    )
    return source


def partition(
    name: str,
    pool: Pool,
    clients: int | None,
    rng: np.random.Generator,
    options: Mapping[str, Any],
) -> Sequence[NDArray[np.int64]]:
    """Return the samples of each client; their numbers are not checked here.

    Raises
    ------
    PluginError
        If a user's partitioner fails, or returns anything else.
    """
    parts: Sequence[NDArray[np.int64]] = _call(
        partitioners,
        name,
        (pool, clients, rng),
        options,
        accepts=_are_rows,
        fault=lambda found: (
            "must return a list of integer arrays, the samples of each client, not "
            f"{one_line(repr(found))}"
        ),
    )
    return parts


def shift(
    plugin: Mapping[str, Any], table: Table, clients: Clients
) -> tuple[Table, Sequence[str]]:
    """Return the table that a shift makes, and a note on each client.

    Parameters
    ----------
    plugin
        Name and options of the shift.
    table, clients
        The samples and their clients.

    Raises
    ------
    PluginError
        If a user's shift fails, or returns anything else.
    """
    options = {key: value for key, value in plugin.items() if key != "name"}
    changed, notes = _call(
        shifts,
        plugin["name"],
        (table, clients),
        options,
        accepts=lambda found: _is_shifted(found, table, clients),
        fault=lambda found: (
            "must return a data_prep.shifts.Shifted: a table with the same number of "
            f"samples, and a note (a string) for each of the {clients.number} "
            f"clients; it returned {type(found).__name__}"
        ),
    )
    return changed, notes


def _call(
    registry: Registry[Any],
    name: str,
    args: tuple[Any, ...],
    options: Mapping[str, Any],
    *,
    accepts: Callable[[Any], bool],
    fault: Callable[[Any], str],
) -> Any:
    """Call a plug-in; check its result if it is a user's, since tests check ours."""
    label = user_plugin_label(registry.kind, name)
    with blame(label):
        found = registry.get(name)(*args, **options)
    if label is not None and not accepts(found):
        msg = f"{label} {fault(found)}"
        raise PluginError(msg)
    return found


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
