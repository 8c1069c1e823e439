"""Files that are written whole or not at all.

Nothing here writes or deletes through a symbolic link: in a directory from someone else
a link could point anywhere.
"""

import csv
import errno
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from fedapm_mpi.errors import ConfigError, WriteError

_FREE_SPACE = "free some space"
_CHECK_PERMISSIONS = "check the permissions of the folder"
_MOVE_AWAY = "move away what has this name"
_PUT_BACK = "restore the folder, which was moved or deleted meanwhile"
_CHECK_DISK = "check the file system and its disk or server"
_REMEDIES = {
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EFBIG: _FREE_SPACE,
    errno.EACCES: _CHECK_PERMISSIONS,
    errno.EPERM: _CHECK_PERMISSIONS,
    errno.EROFS: _CHECK_PERMISSIONS,
    errno.ENOENT: _PUT_BACK,
    errno.ESTALE: _PUT_BACK,
    errno.ENOTDIR: _MOVE_AWAY,
    errno.EISDIR: _MOVE_AWAY,
    errno.EEXIST: _MOVE_AWAY,
    errno.ENOTEMPTY: _MOVE_AWAY,
    errno.ELOOP: _MOVE_AWAY,
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}
"""What a user can do about an error, by its number."""

_ERROR_NUMBER = re.compile(r"(?:errno = |os error )(\d+)")
"""How HDF5 and safetensors state the system's error number."""


def open_new(path: Path) -> BinaryIO:
    """Open a new file for writing; what was there under its name is removed.

    A link is removed as well, never followed: in a directory from someone else, one
    may be where a file is about to be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except FileExistsError:
        path.unlink()
        descriptor = os.open(path, flags, 0o666)
    return os.fdopen(descriptor, "wb")


def atomic_write(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make a file next to `path`, flush it to disk, rename it to `path`.

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


def write_csv(
    path: Path,
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    format: str = "",
) -> None:
    """Write a CSV file whole; `None` and NaN become empty cells.

    Parameters
    ----------
    path
        The file.
    header
        Names of the columns.
    rows
        As many values each.
    format
        How floats are written, such as ``".6g"``; exactly unless given.

    Raises
    ------
    WriteError
        If the file cannot be written.
    """

    def cell(value: object) -> object:
        if not isinstance(value, float):
            return value
        if value != value:
            return ""
        return f"{value:{format}}" if format else value

    def write(part: Path) -> None:
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows([cell(value) for value in row] for row in rows)

    atomic_write(path, write)


def fsync_path(path: Path) -> None:
    """Wait until a file, or a directory's entries, are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; refuse links, pipes (may block) and devices.

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


def why_not_written(error: Exception) -> tuple[str, str]:
    """Return why a file could not be written, and the remedy, as text.

    Parameters
    ----------
    error
        What was raised, by Python or by a library.
    """
    code = getattr(error, "errno", None)
    if not code and (found := _ERROR_NUMBER.search(str(error))):
        code = int(found[1])
    reason = os.strerror(code) if code else str(error)[:200]
    return reason, _REMEDIES.get(code or 0, _CHECK_DISK)


def write_error(path: Path, error: Exception) -> WriteError:
    """Return the error to raise where a file cannot be written."""
    reason, remedy = why_not_written(error)
    return WriteError(
        f"cannot write {path}: {reason}; {remedy} or choose another folder"
    )


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
