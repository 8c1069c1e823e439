"""One HDF5 file of a data set; the only module that imports h5py.

A shard has for each split ``<split>/inputs/<name>``, in which the samples of a client
are contiguous, ``<split>/length/<name>`` for a ragged input, ``<split>/label``,
``<split>/row`` (the samples' numbers in the source), ``<split>/target`` and
``<split>/weight`` where the data set has such, and ``<split>/offset`` (clients in the
shard + 1), the first sample of each client. The checksums of the file's blocks follow
HDF5's part of the file; see `data.block_checksums`.
"""

import contextlib
import importlib
import math
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import h5py
import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.data import hdf5_layout as shardlayout
from fedapm_mpi.data.block_checksums import ChangedError, CheckedFile
from fedapm_mpi.data.manifest import (
    InputSpec,
    Manifest,
    ShardFile,
    schema_version,
)
from fedapm_mpi.data.table import Table, iter_blocks
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.alignment import aligned_empty

Compression = Literal["gzip", "lzf", "zstd", "blosc"]

CHUNK_BYTES = 2**17
"""Approximate bytes of the samples that are compressed together."""

# Which error HDF5 raises for a damaged file depends on where it notices the damage.
_ERRORS = (
    OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError,
    AttributeError, MemoryError,
)  # fmt: skip


class ClientArrays(NamedTuple):
    """The samples of one client in one split, as stored."""

    inputs: dict[str, NDArray[Any]]
    """(n, *shape) of every input, by name."""

    lengths: dict[str, NDArray[np.int64]]
    """True lengths (n,) of the ragged inputs, by name."""

    labels: NDArray[np.int64]
    """(n,)."""

    target: NDArray[Any] | None = None
    """(n, k) or (n, *shape), where the data set has targets."""

    weights: NDArray[np.float64] | None = None
    """(n,), where samples have weights."""


class _Columns(NamedTuple):
    """The arrays of a split in an open file."""

    inputs: dict[str, "_Column"]
    lengths: dict[str, "_Column"]
    labels: "_Column"
    target: "_Column | None"
    weights: "_Column | None"


class _Column:
    """One array of a file; rows are read into arrays that torch can use.

    A contiguous array is read without HDF5, in a tenth of the time.
    """

    def __init__(self, dataset: h5py.Dataset, file: CheckedFile) -> None:
        self._file = file
        self._dataset = dataset
        self._dtype: np.dtype[Any] = dataset.dtype
        self._shape = dataset.shape[1:]
        self._row_bytes = math.prod(self._shape) * self._dtype.itemsize
        self._offset = None if dataset.chunks else dataset.id.get_offset()

    def read(self, rows: slice) -> NDArray[Any]:
        """Return rows, ``(n, ...)``."""
        found = aligned_empty((rows.stop - rows.start, *self._shape), self._dtype)
        if not found.size:
            return found
        if self._offset is None:
            self._dataset.read_direct(found, rows)
            return found
        start = self._offset + rows.start * self._row_bytes
        self._file.read_at(found.reshape(-1).view(np.uint8).data, start)
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
        self._manifest = manifest
        self._first = shard.clients[0]
        self._columns: dict[str, _Columns] = {}
        with readable(path):
            self._bytes = CheckedFile(path, shard.block_bytes, shard.block_sums)
            try:
                self._file = h5py.File(self._bytes, "r", locking=False)
            except BaseException:
                self._bytes.close()
                raise
            # At the latest when Python ends: HDF5 closes open files after that, and
            # would call the reader of blocks in an interpreter that has ended.
            self._close = weakref.finalize(self, _close, self._file, self._bytes)
            try:
                self._found = shardlayout.arrays(
                    self._file, manifest, shard, self._bytes.size, _same_type
                )
                _load_filters(path, self._found)
            except BaseException:
                self.close()
                raise

    def read(self, client: int, split: str, *, validate: bool = True) -> ClientArrays:
        """Return the samples of one of its clients in one split.

        Raises
        ------
        DataError
            If they differ from what was written or, with `validate`, a label or a
            length is out of range.
        """
        rows = self._rows(client, split)
        with readable(self._path, self._of(client, split)):
            columns = self._opened(split)
            arrays = ClientArrays(
                {name: column.read(rows) for name, column in columns.inputs.items()},
                {name: _wide(c.read(rows)) for name, c in columns.lengths.items()},
                _wide(columns.labels.read(rows)),
                None if columns.target is None else columns.target.read(rows),
                None if columns.weights is None else columns.weights.read(rows),
            )
        faults = shardlayout.range_faults(arrays, self._manifest)
        fault = next(faults, None) if validate else None
        if fault:
            msg = (
                f"{self._path}: of the {self._of(client, split)}, {fault}; prepare the "
                "data set again"
            )
            raise DataError(msg)
        return arrays

    def rows(self, client: int, split: str) -> NDArray[np.int64] | None:
        """Return the source's numbers of a client's samples; `None` in old shards."""
        found = self._found[split].get("row")
        if found is None:
            return None
        with readable(self._path, self._of(client, split)):
            column = _Column(found, self._bytes)
            return column.read(self._rows(client, split)).astype(np.int64)

    def _rows(self, client: int, split: str) -> slice:
        offset = self._found[split]["offset"][client - self._first :]
        return slice(int(offset[0]), int(offset[1]))

    def _of(self, client: int, split: str) -> str:
        name = self._manifest.client_names[client][:80]
        return f"{split} samples of client {client} ({name})"

    def _opened(self, split: str) -> "_Columns":
        """Return a split's columns, kept open: opening takes longer than reading."""
        if split not in self._columns:
            found = self._found[split]
            inputs = self._manifest.inputs
            ragged = [s.name for s in inputs if s.ragged]
            self._columns[split] = _Columns(
                {s.name: self._column(found[f"inputs/{s.name}"]) for s in inputs},
                {name: self._column(found[f"length/{name}"]) for name in ragged},
                self._column(found["label"]),
                self._column(found["target"]) if "target" in found else None,
                self._column(found["weight"]) if "weight" in found else None,
            )
        return self._columns[split]

    def _column(self, dataset: h5py.Dataset) -> _Column:
        return _Column(dataset, self._bytes)

    def close(self) -> None:
        """Close the file."""
        self._close()


def _close(file: Any, blocks_of_file: CheckedFile) -> None:
    file.close()
    blocks_of_file.close()


def _wide(values: NDArray[Any]) -> NDArray[np.int64]:
    # Aligned, so that torch needs no further copy.
    found = aligned_empty(values.shape, np.int64)
    found[:] = values
    return found


@contextlib.contextmanager
def readable(path: Path, what: str = "") -> Iterator[None]:
    """Raise a `DataError` for any error that reading a damaged file raises.

    Parameters
    ----------
    path
        The file.
    what
        Name of what is read, for messages.
    """
    try:
        yield
    except ChangedError as error:
        where = f" where the {what} are read" if what else ""
        msg = (
            f"{path} is damaged{where}: {error}; copy it again or prepare the data set "
            "again"
        )
        raise DataError(msg) from error
    except _ERRORS as error:
        msg = (
            f"{path} is damaged or does not belong to its manifest "
            f"({str(error)[:300] or type(error).__name__}); copy it again or prepare "
            "the data set again"
        )
        raise DataError(msg) from error


@contextlib.contextmanager
def open_with_locks(path: Path) -> Iterator[OSError | None]:
    """Open a file for reading with locks, as most programs do; yield any error."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        yield error
        return
    with file:
        yield None


def write_empty(path: Path) -> None:
    """Write an empty file with locks, as most programs do."""
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
    # "x" follows no existing link. Without locks every file system will do.
    path.unlink(missing_ok=True)
    with h5py.File(path, "x", locking=False) as file:
        file.attrs["schema_version"] = schema_version(
            table.target,
            table.encoding,
            [c.spec for c in table.columns],
            table.weights is not None,
        )
        file.attrs["dataset"] = table.dataset
        file.attrs["clients"] = np.array(clients, np.int64)
        for split, parts in splits.items():
            own = parts[slice(*clients)]
            rows = np.concatenate([np.empty(0, np.int64), *own])
            counts = [len(part) for part in own]
            group = file.create_group(split)
            _store(group, "offset", np.cumsum([0, *counts], dtype=np.int64))
            _store(group, "label", table.labels[rows].astype(np.int32))
            numbers = rows if table.numbers is None else table.numbers[rows]
            _store(group, "row", numbers.astype(np.int64))
            if table.target is not None:
                _store(group, "target", table.target.values[rows])
            if table.weights is not None:
                _store(group, "weight", table.weights[rows])
            for c in table.columns:
                if c.lengths is not None:
                    lengths = c.lengths[rows].astype(np.int32)
                    _store(group, f"length/{c.spec.name}", lengths)
                dataset = group.create_dataset(
                    f"inputs/{c.spec.name}",
                    shape=(len(rows), *c.spec.stored_shape),
                    dtype=c.spec.stored_type,
                    track_times=False,
                    **_chunked(c.spec, len(rows), filters),
                )
                start = 0
                for block in iter_blocks(c, rows, len(table.labels)):
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
    if compression not in get_args(Compression):
        known = ", ".join(get_args(Compression))
        msg = f"compression={compression!r} is unknown (known: {known})"
        raise DataError(msg)
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
    """Return the layout of an input: contiguous, or in chunks of whole samples."""
    if not filters or not rows:
        return {}
    most = min(rows, max(1, CHUNK_BYTES // spec.stored_bytes))
    return {"chunks": (most, *spec.stored_shape), **filters}


def _load_filters(path: Path, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Load the filters with which a shard was written, if HDF5 lacks them.

    Raises
    ------
    DataError
        If the library that provides them is not installed.
    """
    used = {
        number
        for datasets in found.values()
        for name, dataset in datasets.items()
        if name != "offset"
        for number in shardlayout.filters(dataset)
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
    # Without times, so that equal contents give equal files.
    group.create_dataset(name, data=values, track_times=False)


def _same_type(dataset: Any, dtype: "np.dtype[Any]") -> bool:
    return bool(dataset.id.get_type() == h5py.h5t.py_create(dtype))
