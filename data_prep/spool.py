"""A temporary file that an array grows in until all of it is known."""

from tempfile import TemporaryFile, gettempdir
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.errors import DataError


class Spool:
    """Appends arrays to a file without a name, and maps the whole of it.

    Parameters
    ----------
    what
        What is spooled, for messages, such as "a column of the table".
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._file: IO[bytes] | None = None

    def write(self, values: NDArray[Any]) -> None:
        """Append the bytes of an array.

        Raises
        ------
        DataError
            If there is no room.
        """
        try:
            if self._file is None:
                self._file = TemporaryFile(prefix="fedapm-table-")  # noqa: SIM115
            self._file.write(values.tobytes())
            self._file.flush()
        except OSError as error:
            msg = (
                f"cannot spool {self._what} to {gettempdir()} "
                f"({error.strerror or error}); make room there, or set TMPDIR to "
                "another folder"
            )
            raise DataError(msg) from error

    def mapped(self, dtype: Any, shape: tuple[int, ...]) -> Any:
        """Return all that was written as one array, mapped; nothing can be added."""
        assert self._file is not None
        values = np.memmap(self._file, dtype, "r+", shape=shape)
        self.close()  # the mapping stays
        return values

    def close(self) -> None:
        """Close the file; what is mapped stays."""
        if self._file is not None:
            self._file.close()
