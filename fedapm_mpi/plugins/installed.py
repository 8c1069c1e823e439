"""Plug-ins that installed distributions offer by entry points; none is loaded here.

A distribution declares them in its metadata, a group for each kind of plug-in. In
``pyproject.toml``::

    [project.entry-points."fedapm_mpi.algorithms"]
    fedsam = "my_package.fedsam:FedSAM"

The name is a short form of ``my_package.fedsam:FedSAM``, and is replaced by it when a
configuration is validated. From then on it is a user's own plug-in: the source is
hashed for the run's identity, errors name it, and a run of someone else's that names it
needs trust. A short name in a foreign configuration needs none: it starts only code
that a distribution installed here offers as a plug-in.

Only metadata are read, and only where a list of names is needed, a configuration is
validated, or a name is not built in.
"""

import sys
from functools import cache
from typing import Any, NamedTuple

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.text import one_line


class InstalledPlugin(NamedTuple):
    """An entry point of a distribution."""

    target: str
    """The function or class that it stands for, ``module:name``."""

    distribution: str
    """Name and version of the distribution that declares it."""


def installed_plugins(group: str) -> dict[str, list[InstalledPlugin]]:
    """Return the entry points of a group by name; several may have the same name.

    Parameters
    ----------
    group
        Such as ``fedapm_mpi.algorithms``.
    """
    return _entry_points(group, tuple(sys.path))


def find_installed(group: str, kind: str, name: str) -> InstalledPlugin | None:
    """Return the installed plug-in called `name`, `None` if there is none.

    Raises
    ------
    ConfigError
        If distributions declare different ones.
    """
    found = installed_plugins(group).get(name, [])
    if len({plugin.target for plugin in found}) > 1:
        ways = " or ".join(f"{p.target} ({p.distribution})" for p in found)
        msg = f"{kind} {one_line(name)!r} is declared more than once; write {ways}"
        raise ConfigError(msg)
    return found[0] if found else None


@cache
def _entry_points(
    group: str,
    path: tuple[str, ...],  # the answer depends on it
) -> dict[str, list[InstalledPlugin]]:
    found: dict[str, list[InstalledPlugin]] = {}
    for entry in _all_entry_points(path).select(group=group):
        target = entry.value.partition("[")[0].replace(" ", "")
        source = "an unnamed distribution"
        if entry.dist is not None:
            source = f"{entry.dist.name} {entry.dist.version}"
        found.setdefault(entry.name, []).append(InstalledPlugin(target, source))
    return found


@cache
def _all_entry_points(path: tuple[str, ...]) -> Any:
    """Read the metadata of all distributions, once for all groups."""
    from importlib.metadata import entry_points  # which takes a while

    return entry_points()
