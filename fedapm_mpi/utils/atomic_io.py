"""Files that are there whole or not at all.

Nothing here writes or deletes through a symbolic link: a directory that somebody sent
could point anywhere.
"""

import errno
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.utils.new_file import open_new, why_not_written


class WriteError(FedAPMError):
    """A file of the run that cannot be written, say because the disk is full."""


def atomic_write(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make a file beside `path`, flush it to disk and rename it to `path`.

    A crash at any moment leaves the old file or the new one, never half of one.

    Raises
    ------
    WriteError
        If the file cannot be written; the old one is then untouched.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        open_new(part).close()
        write(part)
        fsync_path(part)
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise write_error(path, error) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a small text file whole."""
    atomic_write(path, lambda part: _write_text(part, text))


def fsync_path(path: Path) -> None:
    """Wait until a file, or a directory's entries, are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; not a link, a pipe (which may block), a device.

    Raises
    ------
    OSError
        If it cannot be read or is something else.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a symbolic link", str(path)) from error
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def remove(path: Path) -> None:
    """Delete a file, a link (not its target), or a directory with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()


def refuse_links(directory: Path, names: tuple[str, ...]) -> None:
    """Refuse a directory in which one of these names is a symbolic link.

    Raises
    ------
    ConfigError
        If one is.
    """
    for name in names:
        path = directory / name
        if path.is_symlink():
            msg = (
                f"{path} is a symbolic link, through which a run does not write; "
                "replace it by what it points to (the whole run directory may be a "
                "link)"
            )
            raise ConfigError(msg)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return stream_sha256(file)


def stream_sha256(file: BinaryIO) -> str:
    """Return the SHA-256 of the rest of an open file, read in blocks."""
    digest = sha256()
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def write_error(path: Path, error: Exception) -> WriteError:
    """Return the error to raise where a file cannot be written."""
    reason, remedy = why_not_written(error)
    return WriteError(
        f"cannot write {path}: {reason}; {remedy} or choose another folder, then go on "
        "with --resume"
    )


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
