"""Which clients a group of the configuration names, and the inputs that it uses."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.config.schema import Group
from fedapm_mpi.data.manifest import InputSpec, Manifest
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.text import MAX_LENGTH, format_value


def assign_groups(groups: Sequence[Group], manifest: Manifest) -> NDArray[np.int64]:
    """Return the group of each client, (m,): 0 for those that no group names.

    Raises
    ------
    ConfigError
        If a group has no client, or a client is in two groups.
    """
    of_client = np.zeros(manifest.num_clients, dtype=np.int64)
    for k, group in enumerate(groups):
        chosen = _chosen(group, manifest, f"groups[{k}]")
        taken = [i for i in chosen if of_client[i]]
        if taken:
            msg = (
                f"client {taken[0]} ({manifest.client_names[taken[0]]}) is in "
                f"groups[{of_client[taken[0]] - 1}] and in groups[{k}]; a client has "
                "one model"
            )
            raise ConfigError(msg)
        of_client[chosen] = k + 1
    return of_client


def _chosen(group: Group, manifest: Manifest, where: str) -> list[int]:
    """Return the clients of a group."""
    if group.clients is not None:
        chosen = _numbered(group.clients, manifest, f"{where}.clients")
    elif group.names is not None:
        chosen = _named(group.names, manifest, f"{where}.names")
    else:
        return _missing_inputs(
            group.missing_inputs or (), manifest, f"{where}.missing_inputs"
        )
    if not chosen:
        msg = f"{where}: it names no client; name some or remove the group"
        raise ConfigError(msg)
    return sorted(chosen)


def _missing_inputs(inputs: Sequence[str], manifest: Manifest, where: str) -> list[int]:
    _known_inputs(inputs, manifest, where)
    lacking = {name: set(manifest.lacking.get(name, ())) for name in _names(manifest)}
    chosen = [
        i
        for i in range(manifest.num_clients)
        if {name for name in lacking if i in lacking[name]} == set(inputs)
    ]
    if not chosen:
        what = " and ".join(inputs) or "nothing"
        msg = f"{where}: no client of {manifest.directory} lacks just {what}"
        raise ConfigError(msg)
    return chosen


def _named(patterns: Sequence[str], manifest: Manifest, where: str) -> set[int]:
    found: set[int] = set()
    for pattern in patterns:
        names = enumerate(manifest.client_names)
        matched = {i for i, name in names if fnmatchcase(name, pattern)}
        if not matched:
            near = did_you_mean(pattern[:MAX_LENGTH], list(manifest.client_names))
            msg = (
                f"{where}: no client of {manifest.directory} is called "
                f"{format_value(pattern)}{near}"
            )
            raise ConfigError(msg)
        found |= matched
    return found


def _numbered(items: Sequence[int | str], manifest: Manifest, where: str) -> set[int]:
    found: set[int] = set()
    for item in items:
        first, dash, last = str(item).partition("-")
        try:
            start = int(first)
            stop = int(last) if dash else start
        except ValueError:
            msg = (
                f"{where}: {format_value(item)} is neither a number nor a range such "
                "as '0-9'"
            )
            raise ConfigError(msg) from None
        if not 0 <= start <= stop < manifest.num_clients:
            msg = (
                f"{where}: {format_value(item)} is not among the clients of "
                f"{manifest.directory}, 0 to {manifest.num_clients - 1}"
            )
            raise ConfigError(msg)
        found |= set(range(start, stop + 1))
    return found


def model_inputs(group: Group, manifest: Manifest, where: str) -> tuple[InputSpec, ...]:
    """Return the inputs that a group's model is given.

    Raises
    ------
    ConfigError
        If the data have no input of such a name, or none is left.
    """
    if group.inputs is None:
        kept = set(_names(manifest)) - set(group.missing_inputs or ())
    else:
        _known_inputs(group.inputs, manifest, f"{where}.inputs")
        kept = set(group.inputs)
    if not kept:
        msg = f"{where}: no input is left for its model"
        raise ConfigError(msg)
    return tuple(spec for spec in manifest.inputs if spec.name in kept)


def _names(manifest: Manifest) -> list[str]:
    return [spec.name for spec in manifest.inputs]


def _known_inputs(names: Iterable[str], manifest: Manifest, where: str) -> None:
    known = _names(manifest)
    for name in names:
        if name not in known:
            msg = (
                f"{where}: {manifest.directory} has no input {name!r}"
                f"{did_you_mean(name, known)} (inputs: {', '.join(known)})"
            )
            raise ConfigError(msg)
