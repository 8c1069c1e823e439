"""One HDF5 file of a data set; the only module that imports h5py.

A shard holds, for each split, ``<split>/inputs/<name>`` with the samples of a client
contiguous, ``<split>/length/<name>`` where an input is ragged, ``<split>/label``, and
``<split>/offset`` (clients in the shard + 1): where in these each client begins.
"""

import contextlib
import importlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from .alignment import aligned_empty
from .errors import DataError
from .manifest import SCHEMA_VERSION, InputSpec, Manifest, ShardFile
from .tables import Table, blocks

Compression = Literal["gzip", "lzf", "zstd", "blosc"]

CHUNK_BYTES = 2**17
"""Of the samples that are compressed together, about."""

# What HDF5 raises for a damaged file depends on where it notices.
_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)


class ClientArrays(NamedTuple):
    """The samples of one client in one split, as stored."""

    inputs: dict[str, NDArray[Any]]
    """(n, *shape) of every input, by name."""

    lengths: dict[str, NDArray[np.int64]]
    """True lengths (n,) of the ragged inputs, by name."""

    labels: NDArray[np.int64]
    """(n,)."""


class _Columns(NamedTuple):
    """What a file has of a split, open for reading."""

    inputs: dict[str, "_Column"]
    lengths: dict[str, "_Column"]
    labels: "_Column"


class _Column:
    """One array of a file, of which rows are read into arrays that torch can use.

    Where it lies in one piece, they are read past HDF5, in a tenth of the time.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self._dtype: np.dtype[Any] = dataset.dtype
        self._shape = dataset.shape[1:]
        self._row_bytes = math.prod(self._shape) * self._dtype.itemsize
        self._offset = None if dataset.chunks else dataset.id.get_offset()
        self._descriptor = dataset.file.id.get_vfd_handle()

    def read(self, rows: slice) -> NDArray[Any]:
        """Return rows, ``(n, ...)``."""
        found = aligned_empty((rows.stop - rows.start, *self._shape), self._dtype)
        if not found.size:
            return found
        if self._offset is None:
            self._dataset.read_direct(found, rows)
            return found
        start = self._offset + rows.start * self._row_bytes
        done = os.preadv(self._descriptor, [found.data], start)
        while done < found.nbytes:  # gigabytes, or the file has been cut
            left = found.data.cast("B")[done:]
            more = os.preadv(self._descriptor, [left], start + done)
            if not more:
                msg = f"it ends in {self._dataset.name}"
                raise OSError(msg)
            done += more
        return found


class OpenShard:
    """A shard opened for reading: read-only, without file locks, checked.

    Raises
    ------
    DataError
        If the file is damaged or not what the manifest says of it.
    """

    def __init__(self, path: Path, manifest: Manifest, shard: ShardFile) -> None:
        self._path = path
        self._inputs = manifest.inputs
        self._first = shard.clients[0]
        self._columns: dict[str, _Columns] = {}
        with readable(path):
            self._file = h5py.File(path, "r", locking=False)
            try:
                self._offsets = _compare(self._file, manifest, shard)
                _load_filters(path, self._file, manifest)
            except BaseException:
                self.close()
                raise

    def read(self, client: int, split: str) -> ClientArrays:
        """Return the samples of one of its clients in one split."""
        offset = self._offsets[split][client - self._first :]
        rows = slice(int(offset[0]), int(offset[1]))
        with readable(self._path):
            columns = self._opened(split)
            return ClientArrays(
                {name: column.read(rows) for name, column in columns.inputs.items()},
                {name: _wide(c.read(rows)) for name, c in columns.lengths.items()},
                _wide(columns.labels.read(rows)),
            )

    def _opened(self, split: str) -> "_Columns":
        """Return a split's columns; finding them takes longer than reading a client."""
        if split not in self._columns:
            group = self._file[split]
            ragged = [s.name for s in self._inputs if s.ragged]
            self._columns[split] = _Columns(
                {s.name: _Column(group["inputs"][s.name]) for s in self._inputs},
                {name: _Column(group["length"][name]) for name in ragged},
                _Column(group["label"]),
            )
        return self._columns[split]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _wide(values: NDArray[Any]) -> NDArray[np.int64]:
    # Aligned too, or torch would need one more copy.
    found = aligned_empty(values.shape, np.int64)
    found[:] = values
    return found


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever reading a damaged file raises into a `DataError`."""
    try:
        yield
    except _ERRORS as error:
        msg = (
            f"{path} is damaged or does not belong to its manifest ({error}); "
            "copy it again or prepare the data set again"
        )
        raise DataError(msg) from error


@contextlib.contextmanager
def open_with_locks(path: Path) -> Iterator[OSError | None]:
    """Hold a file open for reading as most programs do; yield what is in the way."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        yield error
        return
    with file:
        yield None


def write_empty(path: Path) -> None:
    """Write a file that holds nothing, as most programs do, with locks."""
    h5py.File(path, "w").close()


def write_shard(
    path: Path,
    table: Table,
    splits: Mapping[str, Sequence[NDArray[np.int64]]],
    clients: tuple[int, int],
    compression: Compression | None = None,
) -> None:
    """Write the HDF5 file of the clients ``clients[0]`` to ``clients[1] - 1``."""
    filters = _filters(compression)
    with h5py.File(path, "w") as file:
        file.attrs["schema_version"] = SCHEMA_VERSION
        file.attrs["dataset"] = table.dataset
        file.attrs["clients"] = np.array(clients, np.int64)
        for split, parts in splits.items():
            own = parts[slice(*clients)]
            rows = np.concatenate([np.empty(0, np.int64), *own])
            counts = [len(part) for part in own]
            group = file.create_group(split)
            _store(group, "offset", np.cumsum([0, *counts], dtype=np.int64))
            _store(group, "label", table.labels[rows].astype(np.int32))
            for c in table.columns:
                if c.lengths is not None:
                    lengths = c.lengths[rows].astype(np.int32)
                    _store(group, f"length/{c.spec.name}", lengths)
                dataset = group.create_dataset(
                    f"inputs/{c.spec.name}",
                    shape=(len(rows), *c.spec.shape),
                    dtype=c.spec.dtype,
                    track_times=False,
                    **_chunked(c.spec, len(rows), filters),
                )
                start = 0
                for block in blocks(c, rows):
                    dataset[start : start + len(block)] = block
                    start += len(block)


def _filters(compression: Compression | None) -> dict[str, Any]:
    """Return h5py's options for a compression.

    Raises
    ------
    DataError
        If it needs a library that is not installed.
    """
    if compression is None:
        return {}
    if compression in ("gzip", "lzf"):
        return {"compression": compression, "shuffle": True}
    try:
        import hdf5plugin
    except ImportError as error:
        msg = (
            f"compression={compression} needs hdf5plugin ({error}); install it: pip "
            "install 'fedapm-mpi[compression]', or use gzip or lzf"
        )
        raise DataError(msg) from error
    if compression == "zstd":
        return {"shuffle": True, **hdf5plugin.Zstd()}
    # Blosc shuffles by itself.
    return dict(hdf5plugin.Blosc(cname="lz4"))


def _chunked(
    spec: InputSpec, rows: int, filters: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return how an input is laid out: in one piece, or in chunks of whole samples."""
    if not filters or not rows:
        return {}
    size = int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
    return {"chunks": (min(rows, max(1, CHUNK_BYTES // size)), *spec.shape), **filters}


def _load_filters(path: Path, file: Any, manifest: Manifest) -> None:
    """Make the filters known with which a shard was written, if HDF5 lacks them.

    Raises
    ------
    DataError
        If the library that brings them is not installed.
    """
    used = {
        layout.get_filter(k)[0]
        for split in manifest.counts
        for spec in manifest.inputs
        for layout in [file[split]["inputs"][spec.name].id.get_create_plist()]
        for k in range(layout.get_nfilters())
    }
    if all(h5py.h5z.filter_avail(number) for number in used):
        return
    try:
        importlib.import_module("hdf5plugin")
    except ImportError as error:
        msg = (
            f"{path} is compressed in a way that needs hdf5plugin ({error}); install "
            "it: pip install 'fedapm-mpi[compression]'"
        )
        raise DataError(msg) from error


def _store(group: Any, name: str, values: NDArray[Any]) -> None:
    # Without times, so that equal contents are equal files.
    group.create_dataset(name, data=values, track_times=False)


def _compare(
    file: Any, manifest: Manifest, shard: ShardFile
) -> dict[str, NDArray[np.int64]]:
    """Check an open shard against the manifest; return its offsets."""
    first, stop = shard.clients
    if file.attrs["schema_version"] != SCHEMA_VERSION:
        msg = f"its schema version is {file.attrs['schema_version']}"
        raise ValueError(msg)
    if tuple(file.attrs["clients"]) != (first, stop):
        msg = f"it holds clients {file.attrs['clients']}, not {first} to {stop - 1}"
        raise ValueError(msg)
    offsets = {}
    for split, counts in manifest.counts.items():
        offset = file[split]["offset"][:].astype(np.int64)
        if not np.array_equal(offset, np.cumsum([0, *counts[first:stop]])):
            msg = f"its numbers of {split} samples differ"
            raise ValueError(msg)
        total = int(offset[-1])
        expected: list[tuple[str, tuple[int, ...], str]] = [
            ("label", (total,), "int32")
        ]
        for s in manifest.inputs:
            expected.append((f"inputs/{s.name}", (total, *s.shape), s.dtype))
            if s.ragged:
                expected.append((f"length/{s.name}", (total,), "int32"))
        for name, shape, dtype in expected:
            found = file[split][name]
            if found.shape != shape or found.dtype != dtype:
                msg = f"{split}/{name} is {found.dtype} {found.shape}"
                raise ValueError(msg)
        offsets[split] = offset
    return offsets
