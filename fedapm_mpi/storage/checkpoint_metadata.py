"""The description of a checkpoint, ``checkpoint.json``, and the names of checkpoints.

Its last line is the SHA-256 of all bytes before that line (see `strict_json`). It is
checked before anything in the file is used, so that no damage to it, not even of one
bit, can lead to another result. Format 1, of older versions, has no such line: it is
used only if all of it fits together.
"""

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.atomic_io import open_regular, write_text
from fedapm_mpi.utils.strict_json import check_plain, decode, encode

FORMAT = 2
FILE = "checkpoint.json"
SERVER_FILE = "server.safetensors"

_NAME = re.compile(r"round-([0-9]{6,})")
_TENSORS = re.compile(r"clients-[0-9]{5,}-[0-9]{5,}\.safetensors")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEYS = {
    1: {"format", "round", "identity", "files"},
    2: {"format", "round", "converged", "identity", "files"},
}
_ENTRY = {"name", "bytes", "sha256", "clients"}


@dataclass(frozen=True)
class CheckpointInfo:
    """The metadata of a checkpoint."""

    directory: Path
    round_index: int
    """Rounds done."""

    identity: dict[str, Any]
    """What a run must have in common with this one to continue from it."""

    files: tuple[dict[str, Any], ...]
    """Name, bytes, sha256 and clients of each file."""

    converged: bool | None = None
    """Whether the stop rule was met; `None` where an older version did not say."""

    format: int = FORMAT


def name_of(round_index: int) -> str:
    """Return the name of the checkpoint after `round_index` rounds."""
    return f"round-{round_index:06}"


def round_of(name: str) -> int | None:
    """Return the rounds of which a directory is the checkpoint, by its name.

    Only a name that `name_of` gives counts; `None` for all others.
    """
    found = _NAME.fullmatch(name)
    if found is None or len(name) > 25:
        return None
    number = int(found[1])
    return number if name_of(number) == name else None


def write_description(directory: Path, note: Mapping[str, Any]) -> None:
    """Write a description, with `FORMAT` first and its checksum as the last line.

    Raises
    ------
    WriteError
        If it cannot be written.
    """
    write_text(directory / FILE, encode({"format": FORMAT, **note}).decode())


def read_description(directory: Path) -> CheckpointInfo:
    """Return the metadata of a checkpoint, after it was checked for damage.

    Raises
    ------
    ValueError
        If it is damaged; the text says how.
    OSError
        If it cannot be read.
    ConfigError
        If a later version wrote it.
    """
    if not stat.S_ISDIR(directory.lstat().st_mode):
        msg = "it is not a directory"
        raise ValueError(msg)
    with open_regular(directory / FILE) as file:
        note, sealed = decode(file.read())
    check_plain(note)
    kind = note.get("format")
    if sealed and type(kind) is int and kind > FORMAT:
        msg = (
            f"{directory} was written by a later version of fedapm (format {kind}); "
            "continue with that version"
        )
        raise ConfigError(msg)
    _check_format(kind, note, sealed=sealed)
    _check_values(directory, note)
    return CheckpointInfo(
        directory,
        note["round"],
        note["identity"],
        tuple(note["files"]),
        note.get("converged"),
        note["format"],
    )


def _check_format(kind: Any, note: Mapping[str, Any], *, sealed: bool) -> None:
    if type(kind) is not int or kind not in _KEYS:
        msg = f"{FILE} has no format that is known"
        raise ValueError(msg)
    if sealed != (kind > 1):
        msg = f"{FILE} does not have the checksum it was written with"
        raise ValueError(msg)
    if set(note) != _KEYS[kind]:
        msg = f"{FILE} has not the keys of its format"
        raise ValueError(msg)


def _check_values(directory: Path, note: Mapping[str, Any]) -> None:
    converged, files = note.get("converged"), note["files"]
    if not isinstance(note["identity"], dict) or not isinstance(files, list):
        msg = f"{FILE} has values of another type"
        raise ValueError(msg)
    if type(note["round"]) is not int or note["round"] != round_of(directory.name):
        msg = f"{FILE} is of another round than the directory's name"
        raise ValueError(msg)
    if converged is not None and not isinstance(converged, bool):
        msg = f"{FILE} has values of another type"
        raise ValueError(msg)
    if not all(_is_entry(entry) for entry in files):
        msg = f"{FILE} has a list of files that no run has written"
        raise ValueError(msg)
    names = [entry["name"] for entry in files]
    clients = [client for entry in files for client in entry["clients"]]
    twice = len(set(names)) < len(names) or len(set(clients)) < len(clients)
    if twice or SERVER_FILE not in names:
        msg = f"{FILE} lists a file or a client twice, or no {SERVER_FILE}"
        raise ValueError(msg)


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or set(entry) != _ENTRY:
        return False
    name, clients = entry["name"], entry["clients"]
    if not isinstance(name, str) or not isinstance(clients, list):
        return False
    of_server = name == SERVER_FILE and not clients
    return (
        (of_server or _TENSORS.fullmatch(name) is not None)
        and type(entry["bytes"]) is int
        and entry["bytes"] >= 0
        and isinstance(entry["sha256"], str)
        and _SHA256.fullmatch(entry["sha256"]) is not None
        and all(type(client) is int and client >= 0 for client in clients)
    )
