"""Copy shards to a disk of each node before training, once for all its ranks."""

import os
import re
import socket
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.data.manifest import Manifest, ShardFile
from fedapm_mpi.data.reader import shard_path
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.utils.atomic_io import file_sha256, open_new, why_not_written

BLOCK_BYTES = 2**22
"""Bytes that are copied and hashed at a time."""


def stage_shards(
    manifest: Manifest,
    folder: str,
    rank: int,
    nodes: Sequence[int],
    home_ranks: NDArray[np.int64],
) -> Manifest:
    """Copy a rank's share of its node's shards; all ranks of the node must call it.

    A node gets the shards of its clients. They stay there, in a folder that has the
    manifest's hash in its name, for the next start or job on that node; existing files
    are hashed before they are used.

    Parameters
    ----------
    manifest
        The data set in its present directory.
    folder
        Folder on each node; environment variables in it are expanded.
    rank
        This rank.
    nodes
        Node of each rank; -1 for a rank without clients.
    home_ranks
        (m,) home rank of each client.

    Returns
    -------
    Manifest
        The data set in the folder.

    Raises
    ------
    ConfigError
        If a variable in `folder` is not set here, or the folder cannot be made.
    DataError
        If a shard cannot be copied, or is not what the manifest says.
    """
    # A name from a foreign manifest must not lead out of the folder.
    name = re.sub(r"[^\w.-]", "_", manifest.dataset)[:100]
    target = _folder(folder) / f"{name}-{manifest.sha256[:16]}"
    clients = node_clients(rank, nodes, home_ranks)
    if not clients.size:
        return manifest
    shards = sorted({manifest.shard_of(int(client)) for client in clients}, key=_first)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"stage_dir: cannot make {target} on {_host()}: {error.strerror}"
        raise ConfigError(msg) from error
    for shard in rank_share(shards, rank, nodes):
        _copy(manifest, target / shard.name, shard)
    return replace(manifest, directory=str(target))


def node_clients(
    rank: int, nodes: Sequence[int], home_ranks: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the clients of a rank's node; none if the rank hosts no client."""
    if nodes[rank] < 0:
        return np.empty(0, np.int64)
    return np.flatnonzero(np.asarray(nodes)[home_ranks] == nodes[rank])


def rank_share(
    shards: Sequence[ShardFile], rank: int, nodes: Sequence[int]
) -> Sequence[ShardFile]:
    """Return the share of a node's shards that one of its ranks copies or hashes."""
    together = [other for other, where in enumerate(nodes) if where == nodes[rank]]
    return shards[together.index(rank) :: len(together)]


def _folder(text: str) -> Path:
    path = os.path.expandvars(text)
    if "$" in path:
        msg = f"stage_dir: a variable of {text} is not set on {_host()}; name a folder"
        raise ConfigError(msg)
    return Path(path)


def _first(shard: ShardFile) -> int:
    return shard.clients[0]


def _copy(manifest: Manifest, target: Path, shard: ShardFile) -> None:
    """Copy a shard and compare its hash, unless the copy exists."""
    source = Path(manifest.directory) / shard.name
    try:
        # The target of a link could be changed after it has been hashed.
        there = target.is_file() and not target.is_symlink()
        if there and file_sha256(target) == shard.sha256:
            return
        # Refused before it is opened: reading a pipe or a device may never end.
        shard_path(manifest, shard)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            found = _copy_file(source, part)
            if found == shard.sha256:
                part.replace(target)
                return
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        where = error.filename or target
        reason, remedy = why_not_written(error)
        msg = (
            f"cannot copy {source} to {target} on {_host()} ({where}: {reason}); "
            f"{remedy}, choose another stage_dir, or leave it out"
        )
        raise DataError(msg) from error
    msg = (
        f"{source} as {_host()} reads it has the SHA-256 {found}, the manifest says "
        f"{shard.sha256}; copy it again or prepare the data set again"
    )
    raise DataError(msg)


def _copy_file(source: Path, part: Path) -> str:
    """Copy a file; return the SHA-256 of the copied bytes."""
    digest = sha256()
    with source.open("rb") as reading, open_new(part) as writing:
        while block := reading.read(BLOCK_BYTES):
            digest.update(block)
            writing.write(block)
    return digest.hexdigest()


def _host() -> str:
    return socket.gethostname()
