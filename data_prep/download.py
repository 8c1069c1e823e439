"""Download files completely, check them, and move them in place atomically."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fedapm_mpi.errors import DataError

CHUNK = 2**20
TIMEOUT = 60


def place(target: Path, contents: bytes) -> Path:
    """Write a file under a temporary name and move it in place.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    partial = target.with_name(target.name + ".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        return partial.rename(target)
    except OSError as error:
        msg = f"cannot write {target}: {error.strerror}; choose another directory"
        raise DataError(msg) from error


class Remote(NamedTuple):
    """A published file."""

    address: str
    name: str
    """Name of the local file."""

    sha256: str
    """Hash of the whole file."""


def download(
    remote: Remote,
    directory: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Download a file into a directory, continuing an earlier attempt.

    Does nothing if the file exists with the right checksum.

    Parameters
    ----------
    remote
        The file.
    directory
        Target directory.
    progress
        Called with the bytes so far and in total (0 if unknown).

    Raises
    ------
    DataError
        If the network fails (run again to continue) or the checksum differs.
    """
    address, target = remote.address, directory / remote.name
    if target.is_file() and _digest(target) == remote.sha256:
        return target
    partial = target.with_name(target.name + ".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(address, partial, progress)
        digest = _digest(partial)
        if digest != remote.sha256:
            partial.unlink()
            msg = (
                f"{address} is not the expected file: its SHA-256 is "
                f"{digest}, not {remote.sha256}; it was removed, try again later"
            )
            raise DataError(msg)
        return partial.rename(target)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        msg = (
            f"cannot download {address} to {target} ({reason}); the part that has "
            "arrived is kept: run the same command again to continue"
        )
        raise DataError(msg) from error


def _fetch(address: str, partial: Path, progress: Callable[[int, int], None]) -> None:
    """Append the missing bytes to `partial`."""
    done = partial.stat().st_size if partial.exists() else 0
    # Some archives refuse clients without this header.
    headers = {"User-Agent": "fedapm-mpi"}
    if done:
        headers["Range"] = f"bytes={done}-"
    request = urllib.request.Request(address, headers=headers)
    try:
        reply = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # There is nothing after what we have.
        raise
    with reply:
        if reply.status != http.HTTPStatus.PARTIAL_CONTENT:
            done = 0  # The server sends the whole file again.
        total = done + int(reply.headers.get("Content-Length") or 0)
        with partial.open("ab" if done else "wb") as file:
            while chunk := reply.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
        if done < total:
            msg = f"the connection broke after {done} of {total} bytes"
            raise OSError(msg)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK):
            digest.update(chunk)
        return digest.hexdigest()
