"""Files that are there whole or not at all."""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from .errors import FedAPMError
from .newfiles import why_not_written


class WriteError(FedAPMError):
    """A file of the run that cannot be written, say because the disk is full."""


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make a file beside `path`, flush it to disk and rename it to `path`.

    A crash at any moment leaves the old file or the new one, never half of one.

    Raises
    ------
    WriteError
        If the file cannot be written; the old one is then untouched.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        flush(part)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write a small text file whole."""
    write_whole(path, lambda part: _write_text(part, text))


def flush(path: Path) -> None:
    """Wait until a file, or a directory's entries, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def cannot_write(path: Path, error: OSError) -> WriteError:
    """Return the error to raise where a file cannot be written."""
    reason, remedy = why_not_written(error)
    return WriteError(
        f"cannot write {path}: {reason}; {remedy} or choose another folder, then go on "
        "with --resume"
    )


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
