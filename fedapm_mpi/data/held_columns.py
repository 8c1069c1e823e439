"""Inputs of which clients have some columns: entries of the last axis."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.data.number_types import is_floating, stored
from fedapm_mpi.utils import strict_json
from fedapm_mpi.utils.text import format_value

if TYPE_CHECKING:
    from fedapm_mpi.data.manifest import InputSpec, Manifest
    from fedapm_mpi.data.table import Table

Held = dict[str, tuple[tuple[int, ...], ...]]
"""Input name to the numbers of the columns that each client has."""


def num_columns(spec: "InputSpec") -> int:
    """Return the number of an input's columns; a single number is one."""
    return spec.shape[-1] if spec.shape else 1


def blank(spec: "InputSpec") -> Any:
    """Return what is stored in a column that a client does not have.

    A model sees 0, or, of integers that have no such value, what is nearest to it.
    """
    value = -spec.shift / spec.scale if spec.scale else 0.0
    if not is_floating(spec.dtype):
        limits = np.iinfo(spec.dtype)
        value = min(max(round(value), int(limits.min)), int(limits.max))
    return stored(np.array(value), spec.dtype)[()]


def held_columns(table: "Table") -> Held:
    """Return who has which columns, of the inputs that some have in part."""
    return {
        c.spec.name: tuple(tuple(np.flatnonzero(row).tolist()) for row in c.held)
        for c in table.columns
        if c.held is not None
    }


def held_fault(table: "Table", clients: int) -> str:
    """Return what is wrong with who has which columns; empty if nothing is."""
    for c in table.columns:
        if c.held is None:
            continue
        shape = (clients, num_columns(c.spec))
        if c.held.shape != shape or c.held.dtype != bool:
            return (
                f"input {c.spec.name!r} must have a truth value for each of {clients} "
                "clients and each column"
            )
    return ""


def parse_held(given: Any) -> Held:
    """Return who has which columns, from what a manifest says.

    Raises
    ------
    ValueError
        If it is not a list of lists of integers for each input.
    """
    found = {}
    for name, clients in strict_json.mapping(given, "columns").items():
        what = f"columns of input {format_value(name)}"
        each = strict_json.list_of(clients, what)
        found[name] = tuple(
            tuple(strict_json.integers(own, what).tolist()) for own in each
        )
    return found


def manifest_faults(manifest: "Manifest") -> list[str]:
    """Return sentences on columns that are said to be held and cannot be."""
    widths = {spec.name: num_columns(spec) for spec in manifest.inputs}
    found = []
    for name, clients in manifest.columns.items():
        width = widths.get(name, 0)
        sound = (
            name in widths
            and len(clients) == manifest.num_clients
            and all(
                list(own) == sorted(set(own))
                and (not own or 0 <= own[0] <= own[-1] < width)
                for own in clients
            )
        )
        if not sound:
            found.append(
                f"it is not clear who has which columns of the input "
                f"{format_value(name)}"
            )
    return found


def is_blank(values: NDArray[Any], held: Sequence[int], *, pairs: bool = False) -> bool:
    """Return whether all columns but those that are held have one value throughout.

    Parameters
    ----------
    values
        ``(n, ..., columns)`` as stored, or ``(n,)`` single numbers.
    held
        Numbers of the columns.
    pairs
        Whether values are pairs of parts of complex ones, along one more axis.
    """
    columns = values[:, None] if values.ndim == 1 + pairs else values
    others = np.delete(columns, list(held), axis=-2 if pairs else -1)
    return not others.size or bool((others == others.flat[0]).all())
