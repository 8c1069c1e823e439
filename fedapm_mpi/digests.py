"""The digest that a finished run wrote: 64 hex digits in ``final/digest.txt``."""

import re
from pathlib import Path

from .errors import DataError
from .files import open_regular

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
            f"is not finished; go on with it by: fedapm train --resume {run}"
        )
        raise DataError(msg) from error
    if _DIGEST.fullmatch(raw) is None:
        msg = (
            f"{path} is damaged: it does not hold 64 hex digits; write it again by: "
            f"fedapm train --resume {run}"
        )
        raise DataError(msg)
    return raw.decode()
