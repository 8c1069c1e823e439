"""Refuse pipes, sockets and devices, whose reading may block."""

import stat
from pathlib import Path

from fedapm_mpi.errors import DataError


def check_regular(file: Path) -> None:
    """Refuse a file that is not regular, before it is opened.

    Raises
    ------
    ValueError
        If it is a named pipe, a socket, a device or a folder.
    OSError
        If there is no such file.
    """
    if not stat.S_ISREG(file.stat().st_mode):
        msg = "it is not a regular file, but a folder, pipe, socket or device"
        raise ValueError(msg)


def regular(file: Path) -> Path:
    """Return a file whose opening does not block.

    Raises
    ------
    DataError
        If it is a named pipe, a socket or a device.
    """
    if file.exists() and not file.is_file() and not file.is_dir():
        msg = f"{file} is not a regular file but a pipe, socket or device; give a file"
        raise DataError(msg)
    return file
