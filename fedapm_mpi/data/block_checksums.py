"""Files with a checksum for every block, compared whenever a block is read.

A file of ``n`` blocks of `BLOCK_BYTES` bytes (the last may be shorter) is followed by a
table of their CRC-32, 4 bytes each, in little-endian order. The table has a SHA-256,
which is kept elsewhere. A reader that uses `CheckedFile`, such as HDF5, never gets a
byte that has changed, neither of the samples nor of HDF5's own metadata.
"""

import io
import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 8192
"""Bytes that have one checksum. Small, so that reading a client reads little else; the
table is 1/2048 of the file."""

CHECKSUM_BYTES = 4
"""Bytes of a checksum."""


class ChangedError(OSError):
    """Part of a file differs from its checksum."""


class FileChecksums(NamedTuple):
    """What the manifest keeps of a file with a table."""

    bytes: int
    """Size of the file, with the table."""

    sha256: str
    """SHA-256 of the file, with the table."""

    sums: str
    """SHA-256 of the table."""


def append_sums(path: Path, block: int = BLOCK_BYTES) -> FileChecksums:
    """Write the table of a file's checksums to its end."""
    whole, sums, size = sha256(), [], 0
    with path.open("r+b") as file:
        while chunk := memoryview(file.read(128 * block)):
            whole.update(chunk)
            sums += [crc32(chunk[i : i + block]) for i in range(0, len(chunk), block)]
            size += len(chunk)
        table = np.array(sums, "<u4").tobytes()
        file.write(table)
    whole.update(table)
    return FileChecksums(
        size + len(table), whole.hexdigest(), sha256(table).hexdigest()
    )


class CheckedFile(io.RawIOBase):
    """A file opened for reading; every block is compared with the table, if any.

    Parameters
    ----------
    path
        The file.
    block
        Bytes that have one checksum; 0 for a file without a table.
    sums
        SHA-256 of the table.

    Raises
    ------
    ChangedError
        If the table is not the one that was written.
    """

    def __init__(self, path: Path, block: int = 0, sums: str = "") -> None:
        super().__init__()
        self._block = block
        self._at = 0
        self._sums: NDArray[np.uint32] = np.empty(0, np.uint32)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.size = os.fstat(self._descriptor).st_size
            if block:
                self._read_table(sums)
        except BaseException:
            self.close()
            raise

    def _read_table(self, sums: str) -> None:
        number = -(-self.size // (self._block + CHECKSUM_BYTES))
        table = bytearray(number * CHECKSUM_BYTES)
        self.size -= len(table)
        if self.size > 0:
            self._fill([memoryview(table)], self.size)
        if self.size <= 0 or sha256(table).hexdigest() != sums:
            msg = "its table of checksums has changed since it was written"
            raise ChangedError(msg)
        self._sums = np.frombuffer(table, "<u4")

    def read_at(self, view: memoryview, start: int) -> None:
        """Fill a view of bytes from position `start` on.

        Raises
        ------
        ChangedError
            If a block differs from its checksum.
        OSError
            If the file ends before.
        """
        stop = start + len(view)
        if start < 0 or stop > self.size:
            msg = f"it ends before byte {stop}"
            raise OSError(msg)
        if not self._block:
            self._fill([view], start)
            return
        first = start - start % self._block
        last = min(stop + -stop % self._block, self.size)
        head, tail = bytearray(start - first), bytearray(max(0, last - stop))
        self._fill([memoryview(head), view, memoryview(tail)], first)
        found = list(self._found(head, view, tail))
        k = first // self._block
        expected = self._sums[k : k + len(found)].tolist()
        if found != expected:
            wrong = [a == b for a, b in zip(found, expected, strict=True)].index(False)
            at = first + wrong * self._block
            msg = (
                f"bytes {at} to {min(at + self._block, self.size) - 1} do not have "
                "the checksum with which they were written"
            )
            raise ChangedError(msg)

    def _found(
        self, head: bytearray, view: memoryview, tail: bytearray
    ) -> Iterator[int]:
        """Yield the checksums of the blocks in three adjacent chunks."""
        size, at = self._block, 0
        if head:
            at = min(size - len(head), len(view))
            value = crc32(view[:at], crc32(head))
            if at == len(view):
                yield crc32(tail, value)
                return
            yield value
        rest = (len(view) - at) % size if tail else 0
        for i in range(at, len(view) - rest, size):
            yield crc32(view[i : i + size])
        if rest:
            yield crc32(tail, crc32(view[len(view) - rest :]))

    def _fill(self, views: Sequence[memoryview], start: int) -> None:
        """Read adjacent chunks; the system may return fewer bytes than asked for."""
        left = [view for view in views if len(view)]
        while left:
            done = os.preadv(self._descriptor, left, start)
            if not done:
                msg = f"it ends before byte {start}"
                raise OSError(msg)
            start += done
            while left and done >= len(left[0]):
                done -= len(left[0])
                del left[0]
            if left:
                left[0] = left[0][done:]

    # The interface that HDF5 needs to read a file through Python.

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position of `readinto`."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        """Return the position of `readinto`."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer up to the end of the file; see `read_at`."""
        view = memoryview(buffer).cast("B")
        there = min(len(view), max(0, self.size - self._at))
        if there:
            self.read_at(view[:there], self._at)
        self._at += there
        return there

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()
