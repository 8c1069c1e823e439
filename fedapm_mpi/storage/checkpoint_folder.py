"""Find, quarantine and delete the checkpoints in a run's folder.

They are ordered by their number. Other files, under names that no run
writes, are ignored.
"""

import re
from contextlib import suppress
from pathlib import Path

from fedapm_mpi.storage.checkpoint_metadata import (
    CheckpointInfo,
    read_description,
    round_of,
)
from fedapm_mpi.utils.atomic_io import remove, write_error

_LEFT = re.compile(r"\.(?:old-)?(round-[0-9]+)")
"""A draft, or an old checkpoint that was being deleted when the run was killed."""

_ASIDE = re.compile(r"damaged-(round-[0-9]+)(?:\.[0-9]+)?")


def present(root: Path) -> list[Path]:
    """Return the checkpoints in a directory, whatever their state, the oldest first."""
    if not root.is_dir():
        return []
    numbered = [(round_of(path.name), path) for path in root.iterdir()]
    return [path for _, path in sorted((n, p) for n, p in numbered if n is not None)]


def any_ever(root: Path) -> bool:
    """Return whether a directory holds a checkpoint, or a quarantined one."""
    aside = root.iterdir() if root.is_dir() else ()
    return bool(present(root)) or any(_ASIDE.fullmatch(path.name) for path in aside)


def find(root: Path, notes: list[str]) -> list[CheckpointInfo]:
    """Return the checkpoints in a directory, the newest first.

    Checkpoints with unusable metadata are quarantined and reported in `notes`.

    Raises
    ------
    WriteError
        If one cannot be quarantined.
    """
    saved = []
    for directory in reversed(present(root)):
        try:
            saved.append(read_description(directory))
        except OSError as error:
            fault = f"its description cannot be read: {error.strerror or error}"
            notes.append(quarantine(directory, fault))
        except ValueError as error:
            notes.append(quarantine(directory, f"its description is unusable: {error}"))
    return saved


def quarantine(directory: Path, fault: str) -> str:
    """Rename a damaged checkpoint, so that it is no longer found; return a note.

    Raises
    ------
    WriteError
        If that is not possible.
    """
    aside = directory.with_name(f"damaged-{directory.name}")
    number = 0
    while aside.exists() or aside.is_symlink():
        number += 1
        aside = directory.with_name(f"damaged-{directory.name}.{number}")
    try:
        directory.rename(aside)
    except OSError as error:
        raise write_error(aside, error) from error
    return f"damaged checkpoint {directory.name} set aside as {aside.name}: {fault}"


def rename_hidden(path: Path) -> None:
    """Delete a checkpoint; hidden first, so that a crash leaves no partial one."""
    if not path.exists() and not path.is_symlink():
        return
    hidden = path.with_name(f".old-{path.name}")
    remove(hidden)
    path.rename(hidden)
    remove(hidden)


def prune(root: Path, keep: int) -> None:
    """Delete the oldest checkpoints, and what crashes left, as far as possible."""
    clean(root)
    for old in present(root)[:-keep]:
        with suppress(OSError):
            rename_hidden(old)


def clean(root: Path) -> None:
    """Delete what a crash left of checkpoints that were being written or deleted."""
    with suppress(OSError):
        for path in list(root.iterdir()):
            found = _LEFT.fullmatch(path.name)
            if found is not None and round_of(found[1]) is not None:
                remove(path)
