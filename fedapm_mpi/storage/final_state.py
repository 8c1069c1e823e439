"""The digest of a final state and the checksums of its files.

``final/digest.txt`` holds 64 hex digits, ``final/checksums.txt`` a line for each file
of tensors, as ``sha256sum`` writes it and ``sha256sum --check`` reads it.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.atomic_io import (
    file_sha256,
    open_regular,
    stream_sha256,
    write_error,
    write_text,
)

SUMS = "checksums.txt"
AGAIN = "write it again by: fedapm train --resume"

_DIGEST = re.compile(rb"[0-9a-f]{64}")


def read_digest(run: Path) -> str:
    """Return the digest of a finished run.

    Raises
    ------
    DataError
        If it cannot be read, or is not one.
    """
    path = run / "final" / "digest.txt"
    try:
        with open_regular(path) as file:
            raw = file.read(1000).strip()
    except OSError as error:
        msg = (
            f"cannot read {path} ({error.strerror}): not a run directory, or the run "
            f"is not finished; continue it by: fedapm train --resume {run}"
        )
        raise DataError(msg) from error
    if _DIGEST.fullmatch(raw) is None:
        msg = f"{path} is damaged: it does not hold 64 hex digits; {AGAIN} {run}"
        raise DataError(msg)
    return raw.decode()


def write_sums(folder: Path, known: Iterable[Mapping[str, str]]) -> None:
    """Write the checksums of all files of tensors in a folder.

    Parameters
    ----------
    folder
        The final state.
    known
        Each rank's checksums of its files, by name; missing ones are computed.

    Raises
    ------
    WriteError
        If they cannot be written.
    """
    sums = {name: found for one in known for name, found in one.items()}
    try:
        for path in folder.glob("*.safetensors"):
            if path.name not in sums:
                sums[path.name] = file_sha256(path)
    except OSError as error:
        raise write_error(folder / SUMS, error) from error
    lines = [f"{sums[name]}  {name}\n" for name in sorted(sums)]
    write_text(folder / SUMS, "".join(lines))


def check_sum(path: Path) -> None:
    """Check a file of a final state; older versions wrote no checksums.

    Raises
    ------
    DataError
        If it is damaged, or cannot be read.
    """
    lines = _lines(path.parent)
    if lines is None:
        return
    try:
        with open_regular(path) as file:
            found = f"{stream_sha256(file)}  {path.name}".encode()
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise DataError(msg) from error
    if found not in lines:
        msg = (
            f"{path} does not have the checksum that {SUMS} holds: it is damaged; "
            f"{AGAIN} {path.parent.parent}"
        )
        raise DataError(msg)


def tensor_files(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a final state whose names fit a pattern, none missing.

    Raises
    ------
    DataError
        If files are missing, or there are more than were written.
    """
    found = sorted(folder.glob(pattern))
    lines = _lines(folder)
    if lines is not None:
        names = {line.partition(b"  ")[2].decode("utf-8", "replace") for line in lines}
        wanted = {name for name in names if Path(name).match(pattern)}
        odd = wanted ^ {path.name for path in found}
        if odd:
            msg = (
                f"{folder} is damaged: {min(odd)} is missing, or not in {SUMS}; "
                f"{AGAIN} {folder.parent}"
            )
            raise DataError(msg)
    return found


def _lines(folder: Path) -> list[bytes] | None:
    path = folder / SUMS
    if not os.path.lexists(path):
        return None
    try:
        with open_regular(path) as file:
            return file.read().splitlines()
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise DataError(msg) from error
