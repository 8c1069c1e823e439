"""Decide whether the user plug-ins of a run directory may be imported.

A run's configuration can name any function of any module, with any options. So its
plug-ins are imported only if the run was made by this user, which a mark proves that
only this user can make, or if the user says that the run is trusted.
"""

import hmac
import json
import os
import secrets
import stat
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from fedapm_mpi.comm.launch_env import launched_size
from fedapm_mpi.config.plugin_sources import user_plugin_names, user_plugins
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.atomic_io import write_text
from fedapm_mpi.utils.text import one_line

MARK = "own_parts.json"
"""File of a run directory with the mark; only runs with user plug-ins have it."""

FLAG = "--trust"
KEY_BYTES = 32


def key_file() -> Path:
    """Return where the user's key is kept, from the environment."""
    base = os.environ.get("XDG_STATE_HOME", "")
    if not Path(base).is_absolute():  # as the XDG specification has it
        base = "~/.local/state"
    return Path(base).expanduser() / "fedapm" / "key"


def mark_run(directory: Path, config: Mapping[str, Any]) -> str | None:
    """Mark a run directory as made here, if its configuration names user plug-ins.

    Returns
    -------
    str or None
        A sentence, where no mark can be made.
    """
    if not user_plugin_names(config):
        return None
    try:
        key = _key(make=True)
    except OSError as error:
        key, reason = None, error.strerror or str(error)
    else:
        reason = "it is readable by others or not yours"
    if key is None:
        return (
            f"{directory} cannot be marked as made here, since the key {key_file()} "
            f"cannot be used ({reason}): reading it later needs {FLAG}"
        )
    note = {"own_parts": user_plugin_names(config), "mark": _mark(key, config)}
    write_text(directory / MARK, json.dumps(note, indent=1) + "\n")
    return None


def made_here(directory: Path, config: Mapping[str, Any]) -> bool:
    """Return whether a run has this user's mark for exactly these plug-ins."""
    if not (directory / MARK).is_file():  # nor anything that would be waited for
        return False
    try:
        key = _key(make=False)
        note = json.loads((directory / MARK).read_text("utf-8"))
        mark = str(note["mark"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False
    if key is None:
        return False
    expected = _mark(key, config)
    return hmac.compare_digest(mark.encode(), expected.encode())


def require(
    directory: Path,
    config: Mapping[str, Any],
    *,
    trusted: bool = False,
    way: str = FLAG,
) -> None:
    """Refuse a run's user plug-ins unless the run is trusted or was made here.

    Parameters
    ----------
    directory
        The run directory.
    config
        What its ``config.yaml`` says.
    trusted
        Whether the user said that the run is trusted.
    way
        How the user can say so, for the message.

    Raises
    ------
    ConfigError
        If it was not made here and the user does not trust it.
    """
    names = user_plugin_names(config)
    if not names or trusted or made_here(directory, config):
        return
    shown = ", ".join(one_line(name) for name in names[:5])
    if _ask(f"{directory} was not made here and names custom code: {shown}"):
        return
    msg = (
        f"{directory} names custom code ({shown}) and is not marked as a run that you "
        f"made here ({MARK}, key {key_file()}), so that code is not imported; if you "
        f"trust the code and its options in config.yaml, add {way}"
    )
    raise ConfigError(msg)


def _ask(text: str) -> bool:
    """Return whether the user, at a terminal, agrees."""
    if launched_size()[0] > 1:
        return False
    try:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        # A question to the user, on the line of the answer: no message for a log.
        sys.stderr.write(f"{text}\nimport and run it? [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    except (OSError, ValueError, AttributeError):  # closed, or none
        return False


def _mark(key: bytes, config: Mapping[str, Any]) -> str:
    """Return the mark of a configuration's user plug-ins with all their options."""
    text = json.dumps(user_plugins(config), sort_keys=True, default=repr)
    return hmac.new(key, text.encode(), sha256).hexdigest()


def _key(*, make: bool) -> bytes | None:
    """Return the user's key, made if needed; `None` if others can read it."""
    path = key_file()
    if make and not path.exists():
        _make_key(path)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(file.fileno())
        others = stat.S_IRWXG | stat.S_IRWXO
        if facts.st_uid != os.geteuid() or facts.st_mode & others:
            return None
        key = file.read()
    return key if len(key) >= KEY_BYTES else None


def _make_key(path: Path) -> None:
    """Make a key, whole or not at all; of several that are made at once one stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".key-{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if not path.exists():
                draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
