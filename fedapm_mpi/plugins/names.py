"""Names of users' plug-ins, ``module:name`` or ``./file.py:name``; none is loaded."""

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedapm_mpi.utils.text import one_line


def is_user_plugin(name: object) -> bool:
    """Return whether a name is that of a user's own plug-in."""
    if not isinstance(name, str):
        return False
    return ":" in name or name.endswith(".py") or "/" in name


def file_exists(path: str) -> bool:
    """Return whether there is a file of that name; a name may be invalid."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def names_file(name: str) -> bool:
    """Return whether a plug-in is named by a file, not by a module."""
    where = name.rpartition(":")[0] or name
    return where.endswith(".py") or "/" in where


def absolute_name(name: str) -> str:
    """Return a plug-in's name with the absolute path of its file, if it has one."""
    where, colon, attribute = name.rpartition(":")
    if not colon or not names_file(name):
        return name
    return f"{path_of(where).absolute()}:{attribute}"


def rename_plugins(part: Any, change: Callable[[str], str]) -> Any:
    """Return a plug-in's configuration with changed names of users' plug-ins.

    Those in its options are changed as well, at any depth.
    """
    if isinstance(part, Mapping):
        found = {key: rename_plugins(value, change) for key, value in part.items()}
        if is_user_plugin(part.get("name")):
            found["name"] = change(part["name"])
        return found
    if isinstance(part, list):
        return [rename_plugins(one, change) for one in part]
    return part


def display_name(name: str) -> str:
    """Return a name for messages: relative for a file below the working directory."""
    where, colon, attribute = name.rpartition(":")
    with contextlib.suppress(OSError, ValueError):
        if colon and names_file(name) and Path(where).is_relative_to(Path.cwd()):
            return f"./{os.path.relpath(where)}:{attribute}"
    return one_line(name)


def plugin_label(kind: str, name: str) -> str:
    """Return what messages call a plug-in: ``model './plain.py:plain'``."""
    return f"{kind} {display_name(name)!r}"


def user_plugin_label(kind: str, name: str) -> str | None:
    """Return what messages call a user's own plug-in, `None` for a built-in one."""
    return plugin_label(kind, name) if is_user_plugin(name) else None


def path_of(where: str) -> Path:
    """Return the path that a name gives, with the home directory for ``~``."""
    with contextlib.suppress(RuntimeError):  # no such user
        return Path(where).expanduser()
    return Path(where)
