"""Read clients' samples from the shards of a data set, and verify the shards.

`data.writer` writes a data set, `data.hdf5_layout` describes the layout of a shard.
"""

import stat
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.data.hdf5 import ClientArrays, OpenShard, readable
from fedapm_mpi.data.manifest import Manifest, ShardFile
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.atomic_io import file_sha256

MAX_OPEN_SHARDS = 64
"""Files that a reader keeps open."""


class ShardReader:
    """Reads clients from the shards of a data set; many processes may do so at once.

    A shard is opened, read-only and without file locks, when a client of it is first
    read, and then compared with the manifest. Every block that is read is compared with
    its checksum, every time; a shard of an old data set, which has no checksums of
    blocks, is hashed as a whole before its first client is read.

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
        """Read these shards without hashing them; they have been hashed elsewhere."""
        self._sound.update(shard.name for shard in shards)

    def read(self, client: int, split: str, *, validate: bool = True) -> ClientArrays:
        """Return the samples of one client in one split.

        Raises
        ------
        DataError
            If there is no such client or split, its shard cannot be read or has changed
            since it was written or, with `validate`, a label or a length is out of
            range.
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
