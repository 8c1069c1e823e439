"""Storage of the clients' states and samples, for a rank alone or for a node.

Ranks of a node that share may each work on any client that lives on the node. What they
keep then lies in a file that all of them map: in memory, or in a scratch folder, where
it may be larger than memory.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import disk_usage
from tempfile import gettempdir
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.comm import Communicator
from fedapm_mpi.data.samples import Samples
from fedapm_mpi.errors import ConfigError, WriteError
from fedapm_mpi.storage.shared_memory import (
    MappedFile,
    TensorArena,
    Tensors,
    TicketCounter,
)
from fedapm_mpi.utils.alignment import ALIGNMENT

MEMORY = Path("/dev/shm")
"""A folder of files that lie in memory, on Linux."""


Value = TypeVar("Value")


class TensorStore(Protocol[Value]):
    """Tensors by key: those of a client's state, or its samples."""

    def __contains__(self, key: Any) -> bool:
        """Return whether there is something under a key."""
        ...

    def get(self, key: Any) -> Value | None:
        """Return what is kept under a key, to be read, or changed in place."""
        ...

    def put(self, key: Any, value: Value) -> Value:
        """Keep tensors, or copies of them; return what is kept.

        Raises
        ------
        WriteError
            If there is no space.
        """
        ...


class LocalStore(Generic[Value]):
    """What a rank keeps for itself, in its own memory."""

    def __init__(self) -> None:
        self._kept: dict[Any, Value] = {}

    def __contains__(self, key: Any) -> bool:
        """Return whether there is something under a key."""
        return key in self._kept

    def get(self, key: Any) -> Value | None:
        """Return the tensors under a key."""
        return self._kept.get(key)

    def put(self, key: Any, value: Value) -> Value:
        """Keep these very tensors."""
        self._kept[key] = value
        return value


class SharedSampleStore:
    """Samples, each as named tensors in a cell."""

    def __init__(self, cells: TensorArena) -> None:
        self._cells = cells

    def __contains__(self, key: Any) -> bool:
        """Return whether there are samples under a key."""
        return key in self._cells

    def get(self, key: Any) -> Samples | None:
        """Return the samples under a key, as they lie in the file."""
        named = self._cells.get(key)
        return None if named is None else Samples.of_tensors(named)

    def put(self, key: Any, value: Samples) -> Samples:
        """Keep copies, or raise `WriteError`; return these."""
        return Samples.of_tensors(self._cells.put(key, value.tensors()))


@dataclass(frozen=True)
class Storage:
    """The storage of a rank; see `open_storage`."""

    states: TensorStore[Tensors] = field(default_factory=LocalStore[Tensors])
    """By client."""

    samples: TensorStore[Samples] = field(default_factory=LocalStore[Samples])
    """By client and split."""

    tickets: TicketCounter | None = None
    """Which client a free rank of the node takes next; `None` if clients do not move
    between ranks."""

    nodes: tuple[int, ...] | None = None
    """Each rank's node, -1 for a rank without clients; `None` if no ranks share."""

    note: str | None = None
    """Why no ranks share, where they should."""


class Capacity(NamedTuple):
    """Bytes of the clients' cells."""

    states: NDArray[np.int64]
    """(m,)"""

    samples: dict[str, NDArray[np.int64]]
    """By split, (m,)."""

    materialized: float
    """Largest share of the clients that will have a state."""


def open_storage(
    comm: Communicator,
    nodes: Sequence[int],
    home_ranks: NDArray[np.int64],
    capacity: Capacity,
    *,
    scratch: str | None = None,
    together: bool = True,
) -> Storage:
    """Open the storage that the ranks of each node share; a collective call.

    Parameters
    ----------
    comm
        The ranks.
    nodes : (size,)
        The node of each rank; -1 for one without clients.
    scratch
        Folder of the mapped files; memory if `None`.
    together
        Whether ranks are to share; without it, and without `scratch`, each keeps what
        it has for itself.
    home_ranks : (m,)
        The rank on which each client lives.
    capacity
        What clients need.

    Raises
    ------
    ConfigError
        If `scratch` cannot be used, on every rank.
    """
    hosting = [node for node in nodes if node >= 0]
    together = together and len(set(hosting)) < len(hosting)
    if scratch is None and not together:
        return Storage()
    own = np.flatnonzero(np.asarray(nodes)[home_ranks] == nodes[comm.rank])
    file, found = _map_file(comm, nodes, _folder(scratch), own, capacity)
    if found and scratch is not None:
        comm.raise_collectively(ConfigError(f"scratch: {found}"))
    if found:
        return Storage(
            note=f"falling back to static scheduling: {found}; set scratch to a folder "
            "that the ranks of a node can share"
        )
    if file is None:
        return Storage(nodes=tuple(nodes))
    ranks = nodes.count(nodes[comm.rank])
    tickets = TicketCounter(file, 0, ranks) if together else None
    states, samples = _cells(file, own, capacity)
    return Storage(states, SharedSampleStore(samples), tickets, tuple(nodes))


def _map_file(
    comm: Communicator,
    nodes: Sequence[int],
    folder: Path,
    clients: NDArray[np.int64],
    capacity: Capacity,
) -> tuple[MappedFile | None, str | None]:
    """Create and map one file for each node; a collective call.

    Returns
    -------
    MappedFile or None
        The file of this rank's node; `None` on a rank without clients.
    str or None
        What failed on any rank, on every rank.
    """
    node = nodes[comm.rank]
    here = node >= 0
    first = here and nodes.index(node) == comm.rank
    file, path, fault = None, None, None
    if first:
        file, path, fault = _create(folder, clients, capacity)
    paths = comm.bcast_object(comm.gather_object(path))
    if here and not first and (path := paths[nodes.index(node)]):
        file, fault = _open(path)
    faults = comm.bcast_object(comm.gather_object(fault))
    if first and path:  # only now, when every rank has opened it
        path.unlink()
    return file, next((fault for fault in faults if fault), None)


def _folder(scratch: str | None) -> Path:
    if scratch is not None:
        return Path(scratch)
    return MEMORY if MEMORY.is_dir() else Path(gettempdir())


def _create(
    folder: Path, clients: NDArray[np.int64], capacity: Capacity
) -> tuple[MappedFile | None, Path | None, str | None]:
    """Make a node's file, or return what prevents it."""
    samples = sum(int(sizes[clients].sum()) for sizes in capacity.samples.values())
    needed = int(capacity.materialized * int(capacity.states[clients].sum())) + samples
    try:
        free = disk_usage(folder).free
        if free < needed:
            fault = (
                f"{folder} has {free / 1e9:.3g} GB left, but states and samples of "
                f"{len(clients)} clients may take {needed / 1e9:.3g} GB"
            )
            return None, None, fault
        size = ALIGNMENT + sum(
            TensorArena.size(c) for _, c in _layout(clients, capacity)
        )
        file, path = MappedFile.create(folder, size)
        try:
            file.write(0, bytes(ALIGNMENT))
            return file, path, _locked(file)
        except WriteError as error:
            path.unlink()
            return None, None, str(error)
    except (OSError, ValueError, OverflowError) as error:
        return None, None, f"no file can be mapped in {folder} ({_reason(error)})"


def _open(path: Path) -> tuple[MappedFile | None, str | None]:
    try:
        return MappedFile.open(path), None
    except (OSError, ValueError, OverflowError) as error:
        return None, f"{path} cannot be mapped by another rank ({_reason(error)})"


def _locked(file: MappedFile) -> str | None:
    """Return why tickets cannot be drawn from a file, or `None`."""
    try:
        number = file.fetch_and_add(0)
        file.write(0, bytes(ALIGNMENT))
    except OSError as error:
        return f"{file.folder} knows no locks ({_reason(error)})"
    return None if number == 0 else f"{file.folder} gives {number} for 0"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _layout(
    clients: NDArray[np.int64], capacity: Capacity
) -> list[tuple[list[Any], Sequence[int]]]:
    """Return the keys and capacities of all cells: of states, then of samples."""
    own = clients.tolist()
    keys: Iterable[Any] = [(i, split) for split in capacity.samples for i in own]
    sizes = [
        n
        for split in capacity.samples
        for n in capacity.samples[split][clients].tolist()
    ]
    return [(own, capacity.states[clients].tolist()), (list(keys), sizes)]


def _cells(
    file: MappedFile, clients: NDArray[np.int64], capacity: Capacity
) -> tuple[TensorArena, TensorArena]:
    (whose, states), (keys, samples) = _layout(clients, capacity)
    return (
        TensorArena(file, ALIGNMENT, whose, states),
        TensorArena(file, ALIGNMENT + TensorArena.size(states), keys, samples),
    )
