"""A data set on disk: samples of many clients in a few large files, and a manifest.

`write_dataset` makes the directory, `read_manifest` and `ShardReader` read it. How one
file is laid out is told in `shardfile`.
"""

import contextlib
import re
import stat
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.comm import SERVER, Communicator, Serial
from fedapm_mpi.data.block_checksums import BLOCK_BYTES, append_sums
from fedapm_mpi.data.hdf5 import (
    ClientArrays,
    Compression,
    OpenShard,
    readable,
    write_shard,
)
from fedapm_mpi.data.manifest import (
    MANIFEST,
    InputSpec,
    Manifest,
    ShardFile,
    encode_manifest,
    read_manifest,
)
from fedapm_mpi.data.table import (
    Column,
    Table,
    check_table,
    column,
    label_counts,
    missing_inputs,
    row_bytes,
    shard_ranges,
)
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.atomic_io import (
    file_sha256,
    fsync_path,
    open_new,
    why_not_written,
)
from fedapm_mpi.utils.new_folders import no_empty_folders

__all__ = [
    "ClientArrays",
    "Column",
    "Compression",
    "InputSpec",
    "Manifest",
    "ShardFile",
    "ShardReader",
    "Table",
    "column",
    "read_manifest",
    "shard_path",
    "verify_checksums",
    "write_dataset",
]

MAX_OPEN_SHARDS = 64
_SHARD_NAME = re.compile(r"shard-\d{5,}-of-\d{5,}\.h5(\.partial)?")


class ShardReader:
    """Reads clients from the shards of a data set; many processes may do so at once.

    A shard is opened, read-only and without file locks, when a client of it is first
    asked for, and compared with the manifest then. Whatever is read of it is compared
    with its checksum, every time; a shard without, of an old data set, is hashed as a
    whole before its first client is read.

    Parameters
    ----------
    manifest
        What `read_manifest` returned.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._open: OrderedDict[str, OpenShard] = OrderedDict()
        self._sound: set[str] = set()
        """Shards without checksums of their parts that have been hashed."""

    def check(self, clients: Iterable[int]) -> None:
        """Open every shard that holds one of these clients.

        Raises
        ------
        DataError
            If one is missing, truncated, or not what the manifest says; the message
            names the file.
        """
        for shard in sorted(
            {self._manifest.shard_of(client) for client in clients},
            key=lambda file: file.clients,
        ):
            self._opened(shard)

    def unhashed(self, clients: Iterable[int]) -> list[ShardFile]:
        """Return the shards of these clients that must be hashed before they are read.

        Those have no checksums of their parts, and have not been hashed yet.
        """
        shards = {self._manifest.shard_of(int(client)) for client in clients}
        wanted = [s for s in shards if not s.block_bytes and s.name not in self._sound]
        return sorted(wanted, key=lambda file: file.clients)

    def hash(self, shard: ShardFile) -> None:
        """Hash a shard as a whole; raise `DataError` if it has changed."""
        verify_checksum(self._manifest, shard)
        self.trust([shard])

    def trust(self, shards: Iterable[ShardFile]) -> None:
        """Read these shards without hashing them, since somebody did."""
        self._sound.update(shard.name for shard in shards)

    def read(self, client: int, split: str, *, validate: bool = True) -> ClientArrays:
        """Return the samples of one client in one split.

        Raises
        ------
        DataError
            If there is no such client or split, its shard cannot be read or has changed
            since it was written or, unless told not to `validate`, a label is no class
            or a length impossible.
        """
        return self._holder(client, split).read(client, split, validate=validate)

    def rows(self, client: int, split: str) -> NDArray[np.int64] | None:
        """Return which samples of the source a client has; `None` in old data sets.

        Raises
        ------
        DataError
            As `read`.
        """
        return self._holder(client, split).rows(client, split)

    def _holder(self, client: int, split: str) -> OpenShard:
        if split not in self._manifest.counts:
            msg = f"{self._manifest.directory}: the data set has no split {split!r}"
            raise DataError(msg)
        shard = self._manifest.shard_of(client)
        if not shard.block_bytes and shard.name not in self._sound:
            self.hash(shard)
        return self._opened(shard)

    def close(self) -> None:
        """Close every open shard; the reader may be used again after it."""
        while self._open:
            self._open.popitem()[1].close()

    def _opened(self, shard: ShardFile) -> OpenShard:
        if shard.name in self._open:
            self._open.move_to_end(shard.name)
        else:
            path = shard_path(self._manifest, shard)
            self._open[shard.name] = OpenShard(path, self._manifest, shard)
            if len(self._open) > MAX_OPEN_SHARDS:
                self._open.popitem(last=False)[1].close()
        return self._open[shard.name]


def verify_checksums(manifest: Manifest) -> None:
    """Hash every shard and compare with the manifest.

    Raises
    ------
    DataError
        If a shard is missing or its contents have changed; names the file.
    """
    for shard in manifest.files:
        verify_checksum(manifest, shard)


def verify_checksum(manifest: Manifest, shard: ShardFile) -> None:
    """Hash one shard and compare with the manifest; see `verify_checksums`."""
    path = shard_path(manifest, shard)
    with readable(path):
        found = file_sha256(path)
    if found != shard.sha256:
        msg = (
            f"{path} has changed since it was written: its SHA-256 is {found}, the "
            f"manifest says {shard.sha256}; copy it again or prepare the data set again"
        )
        raise DataError(msg)


def write_dataset(
    directory: str | Path,
    table: Table,
    splits: Mapping[str, Sequence[NDArray[np.int64]]],
    *,
    client_names: Sequence[str] | None = None,
    partitioner: Mapping[str, Any] | None = None,
    preparation: Mapping[str, Any] | None = None,
    seed: int = 0,
    shards: int | None = None,
    compression: Compression | None = None,
    force: bool = False,
    comm: Communicator | None = None,
) -> Manifest:
    """Write a data set directory, the manifest last; return it as read back.

    The same arguments give the same bytes, on any number of ranks. Rows are copied in
    blocks: little memory is needed beside what `table` itself takes.

    Parameters
    ----------
    directory
        Where to write; made if need be.
    table
        The N samples.
    splits
        Split name to the rows of each of the m clients; ``train`` and ``test``, and
        ``val`` if wanted.
    client_names
        A name for each client; ``client 0`` and so on if None.
    partitioner, preparation, seed
        Kept in the manifest.
    shards
        Number of files, at most one for each client; if None, as many as keep them
        near 256 MiB.
    compression
        How inputs are compressed, a hundred KB at a time: gzip and lzf are HDF5's own,
        zstd and blosc need hdf5plugin here and wherever the shards are read.
    force
        Whether to replace a finished data set.
    comm
        Ranks that write the files together, each some of them; all must be given the
        same arguments. This process alone if None.

    Raises
    ------
    DataError
        If the table is inconsistent, a client has no training sample, the directory
        holds a finished data set, or it cannot be written; it then has no new manifest.
        On every rank together.
    """
    target, ranks = Path(directory), comm or Serial()
    with no_empty_folders(target):
        error: DataError | None = None
        try:
            check_table(table, splits)
            if (target / MANIFEST).exists() and not force:
                msg = f"{target} already holds a finished data set; choose another one"
                raise DataError(msg)
            manifest = replace(
                _described(table, splits, client_names),
                directory=str(target),
                partitioner=dict(partitioner or {}),
                preparation=dict(preparation or {}),
                seed=seed,
            )
            sizes = np.sum(list(manifest.counts.values()), axis=0) * row_bytes(table)
            ranges = shard_ranges(sizes, shards)
        except DataError as caught:
            error = caught
        ranks.raise_collectively(error)
        _write_all(target, table, splits, ranges, manifest, compression, ranks)
    return ranks.bcast_object(read_manifest(target) if ranks.rank == SERVER else None)


def _described(
    table: Table,
    splits: Mapping[str, Sequence[NDArray[np.int64]]],
    client_names: Sequence[str] | None,
) -> Manifest:
    """Return what the manifest says of the samples; every client must have some."""
    counts = {
        split: np.array([len(rows) for rows in parts], np.int64)
        for split, parts in splits.items()
    }
    m = len(counts["train"])
    names = tuple(client_names or (f"client {i}" for i in range(m)))
    empty = np.flatnonzero(counts["train"] == 0)
    if empty.size:
        msg = (
            f"{table.dataset}: {names[empty[0]]} (client {empty[0]}) has no training "
            "sample, and needs one; leave it out or mark a sample of it for training"
        )
        raise DataError(msg)
    return Manifest(
        directory="",
        dataset=table.dataset,
        inputs=tuple(c.spec for c in table.columns),
        classes=tuple(table.classes),
        num_clients=m,
        counts=counts,
        client_names=names,
        files=(),
        partitioner={},
        seed=0,
        sha256="",
        label_counts={s: label_counts(table, parts) for s, parts in splits.items()},
        lacking=missing_inputs(table, splits),
    )


def _write_all(
    target: Path,
    table: Table,
    splits: Mapping[str, Sequence[NDArray[np.int64]]],
    ranges: Sequence[tuple[int, int]],
    manifest: Manifest,
    compression: Compression | None = None,
    comm: Communicator | None = None,
) -> None:
    """Write every shard, each rank some; then rank 0 names them, then the manifest."""
    ranks, number = comm or Serial(), len(ranges)
    names = [f"shard-{i:05d}-of-{number:05d}.h5" for i in range(number)]
    partial = [target / f"{name}.partial" for name in (*names, MANIFEST)]
    mine = range(ranks.rank, number, ranks.size)
    error: DataError | None = None
    files: dict[int, ShardFile] = {}
    try:
        try:
            target.mkdir(parents=True, exist_ok=True)
            for i in mine:
                write_shard(partial[i], table, splits, ranges[i], compression)
                size, sha256, sums = append_sums(partial[i])
                fsync_path(partial[i])
                files[i] = ShardFile(
                    names[i], size, sha256, ranges[i], BLOCK_BYTES, sums
                )
        except (OSError, RuntimeError, DataError) as caught:
            error = _cannot_write(target, caught)
        ranks.raise_collectively(error)
        gathered = ranks.gather_object(files)
        if gathered is not None:
            try:
                every = {i: file for own in gathered for i, file in own.items()}
                ordered = tuple(every[i] for i in range(number))
                _publish(target, partial, replace(manifest, files=ordered))
            except (OSError, RuntimeError) as caught:
                error = _cannot_write(target, caught)
        ranks.raise_collectively(error)
    finally:
        for path in [*(partial[i] for i in mine), *partial[-1:]]:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _publish(target: Path, partial: Sequence[Path], manifest: Manifest) -> None:
    """Give shards that are written their names, and then write the manifest."""
    with open_new(partial[-1]) as file:
        file.write(encode_manifest(manifest))
    fsync_path(partial[-1])
    # From here to the last line the directory has no manifest: it is unfinished.
    (target / MANIFEST).unlink(missing_ok=True)
    for old in target.iterdir():
        if _SHARD_NAME.fullmatch(old.name) and old not in partial:
            old.unlink()
    for path in partial[:-1]:
        path.rename(path.with_suffix(""))
    fsync_path(target)
    partial[-1].rename(target / MANIFEST)
    fsync_path(target)


def _cannot_write(target: Path, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    reason, remedy = why_not_written(error)
    made = DataError(
        f"cannot write the data set to {target} ({reason}): {remedy} or choose another "
        "directory, then prepare again"
    )
    made.__cause__ = error
    return made


def shard_path(manifest: Manifest, shard: ShardFile) -> Path:
    """Return the path of a shard that is a regular file of the right size.

    Raises
    ------
    DataError
        If it is not.
    """
    path = Path(manifest.directory) / shard.name
    try:
        found = path.stat()
    except OSError as error:
        msg = (
            f"{path}, which holds clients {shard.clients[0]} to {shard.clients[1] - 1}"
            f", cannot be found ({error.strerror}); copy it there or prepare the data "
            "set again"
        )
        raise DataError(msg) from error
    size = found.st_size
    if not stat.S_ISREG(found.st_mode):
        msg = f"{path} is not a file; copy it again or prepare the data set again"
        raise DataError(msg)
    if size != shard.bytes:
        msg = (
            f"{path} has {size} bytes, the manifest says {shard.bytes}: it is "
            "truncated or of another data set; copy it again or prepare the data set "
            "again"
        )
        raise DataError(msg)
    return path
