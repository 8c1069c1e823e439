"""Files that are made anew, and why one could not be written."""

import errno
import os
import re
from pathlib import Path
from typing import BinaryIO

_ROOM = "free some space"
_PERMISSION = "check the permissions of the folder"
_NAME = "move away what has this name"
_GONE = "put back the folder that was moved or deleted meanwhile"
_OTHERWISE = "check the file system and its disk or server"
_REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _ROOM,
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EROFS: _PERMISSION,
    errno.ENOENT: _GONE,
    errno.ESTALE: _GONE,
    errno.ENOTDIR: _NAME,
    errno.EISDIR: _NAME,
    errno.EEXIST: _NAME,
    errno.ENOTEMPTY: _NAME,
    errno.ELOOP: _NAME,
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}
"""What a user can do about an error, by its number."""

_IN_WORDS = re.compile(r"(?:errno = |os error )(\d+)")
"""How HDF5 and safetensors name the system's error."""


def open_new(path: Path) -> BinaryIO:
    """Open a new file for writing; what was there under its name is removed.

    A link is removed as well, never followed: in a directory that somebody sent, one
    may have been put where a file is about to be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except FileExistsError:
        path.unlink()
        descriptor = os.open(path, flags, 0o666)
    return os.fdopen(descriptor, "wb")


def why_not_written(error: Exception) -> tuple[str, str]:
    """Return why something could not be written, and the remedy, in words.

    Parameters
    ----------
    error
        What was raised, by Python or by a library.
    """
    code = getattr(error, "errno", None)
    if not code and (found := _IN_WORDS.search(str(error))):
        code = int(found[1])
    reason = os.strerror(code) if code else str(error)[:200]
    return reason, _REMEDIES.get(code or 0, _OTHERWISE)
