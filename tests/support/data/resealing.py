"""Change data sets as another writer of shards might: all checksums fit afterwards."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

from fedapm_mpi.data.block_checksums import BLOCK_BYTES, CHECKSUM_BYTES, append_sums
from fedapm_mpi.data.manifest import MANIFEST, ShardFile, encode_manifest, read_manifest
from fedapm_mpi.utils.atomic_io import file_sha256


def reseal(
    directory: Path,
    index: int,
    change: Callable[[Any], object],
    block: int = BLOCK_BYTES,
) -> None:
    """Change a shard through h5py; compute its and the manifest's checksums again."""
    manifest = read_manifest(directory)
    shard = manifest.files[index]
    path = Path(directory) / shard.name
    with path.open("r+b") as file:
        file.truncate(_without_table(shard))
    with h5py.File(path, "r+", locking=False) as file:
        change(file)
    size, sha256, sums = append_sums(path, block)
    files = list(manifest.files)
    files[index] = dataclasses.replace(
        shard, bytes=size, sha256=sha256, block_bytes=block, block_sums=sums
    )
    changed = dataclasses.replace(manifest, files=tuple(files))
    (Path(directory) / MANIFEST).write_bytes(encode_manifest(changed))


def make_old(directory: Path) -> None:
    """Leave of a data set what a version without checksums of parts would have made."""
    manifest = read_manifest(directory)
    files = []
    for shard in manifest.files:
        path = Path(directory) / shard.name
        with path.open("r+b") as file:
            file.truncate(
                shard.bytes
                - CHECKSUM_BYTES
                * -(-shard.bytes // (shard.block_bytes + CHECKSUM_BYTES))
            )
        with h5py.File(path, "r+", locking=False) as file:
            for split in manifest.counts:
                del file[split]["row"]
        size, sha256 = path.stat().st_size, file_sha256(path)
        files.append(ShardFile(shard.name, size, sha256, shard.clients))
    changed = dataclasses.replace(manifest, files=tuple(files))
    tree = json.loads(encode_manifest(changed))
    del tree["checksum"]
    lines = (f"{json.dumps(key)}: {json.dumps(tree[key])}" for key in tree)
    (Path(directory) / MANIFEST).write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _without_table(shard: ShardFile) -> int:
    return shard.bytes - CHECKSUM_BYTES * -(
        -shard.bytes // (shard.block_bytes + CHECKSUM_BYTES)
    )
