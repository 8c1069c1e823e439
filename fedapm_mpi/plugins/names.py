"""Names of own parts, ``module:name`` or ``./file.py:name``; none is loaded here."""

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedapm_mpi.utils.text import one_line


def is_user_plugin(name: object) -> bool:
    """Return whether a name is that of a user's own part."""
    if not isinstance(name, str):
        return False
    return ":" in name or name.endswith(".py") or "/" in name


def is_there(file: str) -> bool:
    """Return whether there is a file of that name, however odd the name."""
    try:
        return Path(file).is_file()
    except (OSError, ValueError):
        return False


def is_file(name: str) -> bool:
    """Return whether an own part is named by a file, not by a module."""
    where = name.rpartition(":")[0] or name
    return where.endswith(".py") or "/" in where


def absolute(name: str) -> str:
    """Return a name that means the same from any working directory, if it can be."""
    where, colon, attribute = name.rpartition(":")
    if not colon or not is_file(name):
        return name
    return f"{path_of(where).absolute()}:{attribute}"


def renamed(part: Any, change: Callable[[str], str]) -> Any:
    """Return a part whose name, and those of parts in its options, are changed."""
    if isinstance(part, Mapping):
        found = {key: renamed(value, change) for key, value in part.items()}
        if is_user_plugin(part.get("name")):
            found["name"] = change(part["name"])
        return found
    if isinstance(part, list):
        return [renamed(one, change) for one in part]
    return part


def shown(name: str) -> str:
    """Return a name for messages: a file below the working directory without it."""
    where, colon, attribute = name.rpartition(":")
    with contextlib.suppress(OSError, ValueError):
        if colon and is_file(name) and Path(where).is_relative_to(Path.cwd()):
            return f"./{os.path.relpath(where)}:{attribute}"
    return one_line(name)


def label(kind: str, name: str) -> str:
    """Return what messages call a part: ``model './plain.py:plain'``."""
    return f"{kind} {shown(name)!r}"


def label_of(kind: str, name: str) -> str | None:
    """Return what messages call a part if it is the user's own, else `None`."""
    return label(kind, name) if is_user_plugin(name) else None


def path_of(where: str) -> Path:
    """Return the path that a name gives, with a user's home in place of ``~``."""
    with contextlib.suppress(RuntimeError):  # no such user
        return Path(where).expanduser()
    return Path(where)
