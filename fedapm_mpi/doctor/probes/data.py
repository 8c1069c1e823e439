"""Whether each host has the shards of a data set, and can read them."""

import errno
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.config.schema import PluginConfig
from fedapm_mpi.data.hdf5 import open_with_locks
from fedapm_mpi.data.manifest import MANIFEST, Manifest, ShardFile, read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.doctor.findings import DataReport, DataSet, ShardFault
from fedapm_mpi.doctor.watchdog import Watchdog
from fedapm_mpi.errors import DataError, FedAPMError
from fedapm_mpi.federation.federation import place
from fedapm_mpi.utils.atomic_io import file_sha256

BYTES_PER_NUMBER = 4
"""Of a sample in memory, as float32."""


def probe(
    comm: Communicator,
    directory: str,
    placement: PluginConfig,
    clients: int | None,
    watch: Watchdog,
) -> DataSet | None:
    """Check on every host the shards that its ranks need; return all on the server.

    The ranks of a node divide its shards among them. A manifest that the server cannot
    read is reported, not raised.

    Parameters
    ----------
    comm
        The ranks.
    directory
        The data set.
    placement
        How clients are placed on ranks.
    clients
        Number of first clients that count; `None` for all.
    watch
        Is informed of every step.

    Raises
    ------
    ConfigError
        On every rank, if the placement fails or there are fewer clients.
    """
    watch.step(f"reading {directory}")
    whole, text = _manifest(comm, directory)
    if whole is None:
        return DataSet(directory=directory, error=text)
    error: FedAPMError | None = None
    try:
        manifest = whole.first_clients(clients)
        host_of = place(placement, manifest, comm.size)
    except FedAPMError as caught:
        error = caught
    comm.raise_collectively(error)
    nodes = np.asarray(comm.nodes())
    mine = nodes[host_of] == nodes[comm.rank]
    report = _report(comm, whole, np.flatnonzero(mine), _bytes(manifest, mine), watch)
    watch.step(f"gathering reports on {directory}")
    every = comm.gather_object(report)
    if every is None:
        return None
    return DataSet(directory=directory, sha256=whole.sha256, seen=every)


def _report(
    comm: Communicator,
    manifest: Manifest,
    clients: NDArray[np.int64],
    sample_bytes: int,
    watch: Watchdog,
) -> DataReport:
    """Check this rank's share of the shards that the clients of its node need."""
    nodes, path = comm.nodes(), Path(manifest.directory)
    of_node = [rank for rank, node in enumerate(nodes) if node == nodes[comm.rank]]
    turn = of_node.index(comm.rank)
    shards = shards_of(manifest, clients)[turn :: len(of_node)]
    faults = []
    for shard in shards:
        watch.step(f"checking {path}/{shard.name}")
        faults += _faults(manifest, shard)
    return DataReport(
        rank=comm.rank,
        manifest=_sha256(path / MANIFEST) if turn == 0 else None,
        looked=turn == 0,
        folder=path.is_dir(),
        shards=len(shards),
        faults=faults,
        sample_bytes=sample_bytes,
    )


def shards_of(
    manifest: Manifest, clients: Sequence[int] | NDArray[np.int64]
) -> list[ShardFile]:
    """Return the shards that hold some clients, in order."""
    return sorted({manifest.shard_of(int(i)) for i in clients}, key=lambda s: s.clients)


def _manifest(comm: Communicator, directory: str) -> tuple[Manifest | None, str | None]:
    found: tuple[Manifest | None, str | None] = None, None
    if comm.rank == SERVER:
        try:
            found = read_manifest(directory), None
        except DataError as error:
            found = None, str(error)
    return comm.bcast_object(found)


def _faults(manifest: Manifest, shard: ShardFile) -> list[ShardFault]:
    path = Path(manifest.directory) / shard.name
    found = []
    if path.is_file():
        with open_with_locks(path) as error:
            # The reader below describes any other error better.
            if error is not None and "unable to lock" in str(error):
                text = (
                    f"{path} cannot be locked for reading ({error.strerror or error})"
                )
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    text = f"{path} is locked: a program has it open for writing"
                    return [ShardFault(shard=shard.name, kind="locked", text=text)]
                found = [ShardFault(shard=shard.name, kind="no locks", text=text)]
    reader = ShardReader(manifest)
    try:
        reader.check([shard.clients[0]])
    except DataError as error:
        text = str(error).rpartition("; ")[0] or str(error)
        kind = "other" if path.exists() else "missing"
        found.append(ShardFault(shard=shard.name, kind=kind, text=text))  # type: ignore[arg-type]
    finally:
        reader.close()
    return found


def _sha256(path: Path) -> str | None:
    try:
        return file_sha256(path)
    except OSError:
        return None


def _bytes(manifest: Manifest, clients: NDArray[np.bool_]) -> int:
    each = sum(math.prod(spec.stored_shape) for spec in manifest.inputs)
    kept = (n for split, n in manifest.counts.items() if split in ("train", "test"))
    return BYTES_PER_NUMBER * each * sum(int(n[clients].sum()) for n in kept)
