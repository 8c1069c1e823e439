"""The error that ended a run, in its directory, for the program that started it."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedapm_mpi.errors import FedAPMError
from fedapm_mpi.utils.atomic_io import open_regular, write_text

FAILURE_FILE = "failure.json"


def write_failure(run: Path, error: FedAPMError) -> None:
    """Write class, message and exit code of an error; do nothing if that fails.

    A failure that could not be written, since the disk is full say, must not hide the
    first one.
    """
    values = {
        "error": type(error).__name__,
        "message": str(error),
        "exit_code": error.exit_code,
    }
    with suppress(Exception):
        write_text(run / FAILURE_FILE, json.dumps(values) + "\n")


def remove_failure(run: Path) -> None:
    """Remove the error of an earlier start."""
    with suppress(OSError):
        (run / FAILURE_FILE).unlink(missing_ok=True)


def read_failure(run: Path) -> dict[str, Any] | None:
    """Return class, message and exit code of the error that ended a run, if any did."""
    try:
        with open_regular(run / FAILURE_FILE) as file:
            found = json.loads(file.read().decode("utf-8"))
        return {
            "error": str(found["error"]),
            "message": str(found["message"]),
            "exit_code": int(found["exit_code"]),
        }
    except (OSError, ValueError, LookupError, TypeError):
        return None
