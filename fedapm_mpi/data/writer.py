"""Write a data set: shards with the samples of many clients, and the manifest.

`data.hdf5_layout` describes the layout of a shard.
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.comm import SERVER, Communicator, Serial
from fedapm_mpi.data.block_checksums import BLOCK_BYTES, append_sums
from fedapm_mpi.data.hdf5 import Compression, write_shard
from fedapm_mpi.data.held_columns import held_columns
from fedapm_mpi.data.manifest import (
    MANIFEST,
    Manifest,
    ShardFile,
    encode_manifest,
    read_manifest,
)
from fedapm_mpi.data.table import (
    Table,
    check_table,
    label_counts,
    missing_inputs,
    row_bytes,
    shard_ranges,
)
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.atomic_io import fsync_path, open_new, why_not_written
from fedapm_mpi.utils.new_folders import no_empty_folders

_SHARD_NAME = re.compile(r"shard-\d{5,}-of-\d{5,}\.h5(\.partial)?")


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
    new_clients: int = 0,
    comm: Communicator | None = None,
) -> Manifest:
    """Write a data set directory, the manifest last; return it as read back.

    The same arguments give the same bytes, on any number of ranks. Rows are copied in
    blocks, so that it needs little memory besides that of `table`.

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
        Number of files, at most one for each client; if None, they are near 256 MiB.
    compression
        Of inputs, a hundred KB at a time: gzip and lzf are HDF5's own, zstd and blosc
        need hdf5plugin here and wherever the shards are read.
    force
        Whether to replace a finished data set.
    new_clients
        How many clients, the last ones, have no part in training. They may have no
        training samples; those that they have are to fit a personal block to.
    comm
        Ranks that write the files together, all with the same arguments.

    Raises
    ------
    DataError
        On every rank together, if the table is inconsistent, a client has no training
        sample, or the directory holds a finished data set or cannot be written.
    """
    target, ranks = Path(directory), comm or Serial()
    with no_empty_folders(target):
        manifest, ranges = _plan(
            target, table, splits, client_names, shards, force, new_clients, ranks
        )
        manifest = _with_origin(manifest, target, partitioner, preparation, seed)
        return _write_all(target, table, splits, ranges, manifest, compression, ranks)


def _plan(
    target: Path,
    table: Table,
    splits: Mapping[str, Sequence[NDArray[np.int64]]],
    client_names: Sequence[str] | None,
    shards: int | None,
    force: bool,
    new_clients: int,
    ranks: Communicator,
) -> tuple[Manifest, list[tuple[int, int]]]:
    """Check everything; return a manifest without files, and each file's clients.

    A collective call.
    """
    error: DataError | None = None
    try:
        check_table(table, splits)
        if (target / MANIFEST).exists() and not force:
            msg = f"{target} already holds a finished data set; choose another one"
            raise DataError(msg)
        manifest = _describe(table, splits, client_names, new_clients)
        ranges = shard_ranges(_client_bytes(manifest, table), shards)
    except DataError as caught:
        error = caught
    ranks.raise_collectively(error)
    return manifest, ranges


def _client_bytes(manifest: Manifest, table: Table) -> NDArray[np.int64]:
    """Return the bytes of each client's samples, (m,)."""
    samples = np.sum(list(manifest.counts.values()), axis=0)
    found: NDArray[np.int64] = samples * row_bytes(table)
    return found


def _with_origin(
    manifest: Manifest,
    target: Path,
    partitioner: Mapping[str, Any] | None,
    preparation: Mapping[str, Any] | None,
    seed: int,
) -> Manifest:
    return replace(
        manifest,
        directory=str(target),
        partitioner=dict(partitioner or {}),
        preparation=dict(preparation or {}),
        seed=seed,
    )


def _describe(
    table: Table,
    splits: Mapping[str, Sequence[NDArray[np.int64]]],
    client_names: Sequence[str] | None,
    new_clients: int,
) -> Manifest:
    """Return the manifest's description of the samples.

    Raises
    ------
    DataError
        If a client has no training sample.
    """
    counts = {
        split: np.array([len(rows) for rows in parts], np.int64)
        for split, parts in splits.items()
    }
    m = len(counts["train"])
    names = tuple(client_names or (f"client {i}" for i in range(m)))
    if not 0 <= new_clients < m:
        msg = f"{table.dataset}: {new_clients} of {m} clients cannot be new"
        raise DataError(msg)
    trained = m - new_clients
    empty = np.flatnonzero(counts["train"][:trained] == 0)
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
        encoding=tuple(dict(one) for one in table.encoding),
        target=None
        if table.target is None
        else table.target.spec(np.concatenate(list(splits["train"][:trained]))),
        new_clients=new_clients,
        weights=table.weights is not None,
        columns=held_columns(table),
    )


def _write_all(
    target: Path,
    table: Table,
    splits: Mapping[str, Sequence[NDArray[np.int64]]],
    ranges: Sequence[tuple[int, int]],
    manifest: Manifest,
    compression: Compression | None,
    ranks: Communicator,
) -> Manifest:
    """Write the shards, each rank some of them; then rank 0 publishes the data set.

    Returns the manifest as read back; a collective call.
    """
    number = len(ranges)
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
            error = _write_failure(target, caught)
        ranks.raise_collectively(error)
        gathered = ranks.gather_object(files)
        if gathered is not None:
            try:
                every = {i: file for own in gathered for i, file in own.items()}
                ordered = tuple(every[i] for i in range(number))
                _publish(target, partial, replace(manifest, files=ordered))
            except (OSError, RuntimeError) as caught:
                error = _write_failure(target, caught)
        ranks.raise_collectively(error)
    finally:
        for path in [*(partial[i] for i in mine), *partial[-1:]]:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    return ranks.bcast_object(read_manifest(target) if ranks.rank == SERVER else None)


def _publish(target: Path, partial: Sequence[Path], manifest: Manifest) -> None:
    """Rename the finished shards, then write the manifest."""
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


def _write_failure(target: Path, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    reason, remedy = why_not_written(error)
    made = DataError(
        f"cannot write the data set to {target} ({reason}): {remedy} or choose another "
        "directory, then prepare again"
    )
    made.__cause__ = error
    return made
