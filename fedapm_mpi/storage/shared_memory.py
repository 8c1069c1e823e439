"""Named tensors in a file that the processes of one machine map into their memory.

What one process writes, others see, as long as they take turns: here ranks do, with a
collective between. The file has lost its name once all have opened it, so that nothing
of it is left however they end.
"""

import fcntl
import json
import math
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.errors import WriteError
from fedapm_mpi.utils.alignment import ALIGNMENT

Tensors = dict[str, Tensor]
Sizes = TypeVar("Sizes", int, NDArray[np.int64])

_LENGTH = 8
"""Bytes that hold a description's length."""

_PER_TENSOR = 160
"""Most bytes of the description of one tensor of samples."""


class MappedFile:
    """A file of fixed size, mapped; it takes space only where something was written.

    Parameters
    ----------
    descriptor
        Of the open file; it is closed with this.
    size
        Bytes.
    folder
        Where it lies, for messages.
    """

    def __init__(self, descriptor: int, size: int, folder: Path) -> None:
        self._descriptor = descriptor
        self.folder = folder
        self._map = mmap.mmap(descriptor, size)
        self.bytes = torch.frombuffer(self._map, dtype=torch.uint8)

    @classmethod
    def create(cls, folder: Path, size: int) -> tuple["MappedFile", Path]:
        """Make a file in a folder; return it and its path, for others to open.

        Raises
        ------
        OSError
            If that is impossible.
        """
        descriptor, name = tempfile.mkstemp(prefix="fedapm-", dir=folder)
        path = Path(name)
        try:
            os.ftruncate(descriptor, size)
            return cls(descriptor, size, folder), path
        except BaseException:
            path.unlink()
            raise

    @classmethod
    def open(cls, path: Path) -> "MappedFile":
        """Map a file that another process made.

        Raises
        ------
        OSError
            If that is impossible, say because the process is on another machine.
        """
        descriptor = os.open(path, os.O_RDWR)
        return cls(descriptor, os.fstat(descriptor).st_size, path.parent)

    def write(self, start: int, data: bytes | memoryview) -> None:
        """Write bytes, and so allocate the space for them.

        Writing to the map instead would kill the process where there is no space.

        Raises
        ------
        WriteError
            If there is none.
        """
        view = memoryview(data)
        try:
            while len(view):
                done = os.pwrite(self._descriptor, view[: 2**30], start)
                start, view = start + done, view[done:]
        except OSError as error:
            msg = (
                f"no space for client states in {self.folder} "
                f"({error.strerror or error}); set scratch to a folder on a larger "
                "disk"
            )
            raise WriteError(msg) from error

    def fetch_and_add(self, start: int) -> int:
        """Return the number at a place, 8 bytes, and increment it.

        Processes that ask at the same time are given different ones.

        Raises
        ------
        OSError
            If the file system knows no locks.
        """
        place = slice(start, start + _LENGTH)
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, _LENGTH, start)
        try:
            number = int.from_bytes(self._map[place], "little")
            self._map[place] = (number + 1).to_bytes(_LENGTH, "little")
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, _LENGTH, start)
        return number

    def __del__(self) -> None:
        with suppress(OSError, AttributeError):
            os.close(self._descriptor)


class TicketCounter:
    """A counter shared by processes; each call returns the next unused ticket.

    Parameters
    ----------
    file
        The file.
    start
        Where it has `ALIGNMENT` bytes for this.
    processes
        How many draw.
    """

    def __init__(self, file: MappedFile, start: int, processes: int) -> None:
        self._file = file
        self._start = start
        self._processes = processes
        self._before = 0

    def take(self, count: int) -> Iterator[int]:
        """Yield what this process draws of ``range(count)``.

        All processes must draw to the end, with the same count, and meet in a
        collective before any of them draws again.
        """
        while (k := self._file.fetch_and_add(self._start) - self._before) < count:
            yield k
        # Every process drew one number too many, to see that none was left.
        self._before += count + self._processes


class _TensorHeader(NamedTuple):
    """Where a tensor lies in a cell."""

    name: str
    dtype: str
    shape: list[int]
    strides: list[int]
    start: int


class TensorArena:
    """Sets of named tensors, each in a cell of a mapped file; a cell is filled once.

    Its tensors may then be changed in place, by one process at a time.

    Parameters
    ----------
    file
        The file.
    start
        Where the cells begin; a multiple of `ALIGNMENT`.
    keys
        What each cell is for.
    capacities
        Bytes of each cell, as `required_bytes` or `max_required_bytes` say.
    """

    def __init__(
        self,
        file: MappedFile,
        start: int,
        keys: Iterable[Any],
        capacities: Sequence[int],
    ) -> None:
        self._file = file
        self._index = {key: k for k, key in enumerate(keys)}
        begin = start + _aligned(len(capacities))
        ends = np.cumsum([begin, *map(_aligned, capacities)], dtype=np.int64)
        self._starts = ends.tolist()
        self._flags = file.bytes[start : start + len(capacities)].numpy()
        self._flags_start = start
        self._views: dict[Any, Tensors] = {}

    @staticmethod
    def size(capacities: Sequence[int]) -> int:
        """Return the bytes that cells take together."""
        return _aligned(len(capacities)) + sum(map(_aligned, capacities))

    def __contains__(self, key: Any) -> bool:
        """Return whether a cell is filled."""
        return key in self._index and bool(self._flags[self._index[key]])

    def get(self, key: Any) -> Tensors | None:
        """Return the tensors of a cell, as they lie in the file; `None` if unfilled."""
        if key not in self:
            return None
        if key not in self._views:
            here = self._file.bytes[self._starts[self._index[key]] :]
            length = int(here[:_LENGTH].view(torch.int64))
            text = bytes(here[_LENGTH : _LENGTH + length].numpy())
            values = here[_aligned(_LENGTH + length) :]
            entries = [_TensorHeader(*entry) for entry in json.loads(text)]
            self._views[key] = {entry.name: _view(values, entry) for entry in entries}
        return self._views[key]

    def put(self, key: Any, tensors: Tensors) -> Tensors:
        """Fill a cell with copies of tensors; return these.

        Raises
        ------
        WriteError
            If the file system has no space left, or the cell has not enough.
        """
        k = self._index[key]
        start, capacity = self._starts[k], self._starts[k + 1] - self._starts[k]
        if required_bytes(tensors) > capacity:
            needed = required_bytes(tensors)
            msg = f"the cell of {key} holds {capacity} bytes, not {needed}"
            raise WriteError(msg)
        tensors = _packed(tensors)
        entries = _entries(tensors)
        text = _described(entries)
        self._file.write(start, len(text).to_bytes(_LENGTH, "little") + text)
        values = start + _aligned(_LENGTH + len(text))
        for entry in entries:
            self._file.write(values + entry.start, _bytes(tensors[entry.name]))
        self._file.write(self._flags_start + k, b"\1")
        found = self.get(key)
        assert found is not None
        return found


def required_bytes(tensors: Tensors) -> int:
    """Return the capacity that a cell needs for tensors like these."""
    text = _described(_entries(_packed(tensors)))
    sizes = [t.numel() * t.element_size() for t in tensors.values()]
    return _aligned(_LENGTH + len(text)) + sum(map(_aligned, sizes))


def max_required_bytes(
    each: Sequence[int], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return capacities that suffice for tensors of at most these bytes a row.

    Parameters
    ----------
    each
        Of each tensor the bytes that a row takes; one more is a single number.
    rows
        Rows that the tensors have, for each of several cells.
    """
    head = _aligned(_LENGTH + _PER_TENSOR * (len(each) + 1)) + ALIGNMENT
    return sum((_aligned(size * rows) for size in each), np.full_like(rows, head))


def _entries(tensors: Tensors) -> list[_TensorHeader]:
    entries, start = [], 0
    for name, t in tensors.items():
        dtype = str(t.dtype).removeprefix("torch.")
        entries.append(
            _TensorHeader(name, dtype, list(t.shape), list(t.stride()), start)
        )
        start += _aligned(t.numel() * t.element_size())
    return entries


def _described(entries: list[_TensorHeader]) -> bytes:
    return json.dumps(entries, separators=(",", ":")).encode()


def _view(values: Tensor, entry: _TensorHeader) -> Tensor:
    dtype: torch.dtype = getattr(torch, entry.dtype)
    length = math.prod(entry.shape) * dtype.itemsize
    flat = values[entry.start : entry.start + length].view(dtype)
    return flat.as_strided(entry.shape, entry.strides)


def _packed(tensors: Tensors) -> Tensors:
    """Return tensors whose values lie side by side, in whatever order of axes."""
    return {
        name: t if _by_stride(t).is_contiguous() else t.contiguous()
        for name, t in tensors.items()
    }


def _by_stride(tensor: Tensor) -> Tensor:
    strides = tensor.stride()
    return tensor.permute(sorted(range(tensor.ndim), key=lambda k: -strides[k]))


def _bytes(tensor: Tensor) -> memoryview:
    """Return a packed tensor's values in the order in which they lie."""
    return _by_stride(tensor.detach()).reshape(-1).numpy().data.cast("B")


def _aligned(size: Sizes) -> Sizes:
    return -(-size // ALIGNMENT) * ALIGNMENT
