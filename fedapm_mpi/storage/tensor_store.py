"""Where ranks keep their clients' states and samples: alone, or together on a node.

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
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.storage.shared_memory import (
    MappedFile,
    TensorArena,
    Tensors,
    TicketCounter,
)
from fedapm_mpi.utils.alignment import ALIGNMENT
from fedapm_mpi.utils.atomic_io import WriteError

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
            If there is no room.
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
    """What a rank has opened; see `open_storage`."""

    states: TensorStore[Tensors] = field(default_factory=LocalStore[Tensors])
    """By client."""

    samples: TensorStore[Samples] = field(default_factory=LocalStore[Samples])
    """By client and split."""

    tickets: TicketCounter | None = None
    """By which ranks of a node deal work among them; `None` if this rank has all its
    own."""

    nodes: tuple[int, ...] | None = None
    """Of each rank the node whose ranks share, -1 for one without clients; `None` if
    none do."""

    note: str | None = None
    """Why none do, where they were to."""


class Capacity(NamedTuple):
    """Bytes that the clients' cells have."""

    states: NDArray[np.int64]
    """(m,)"""

    samples: dict[str, NDArray[np.int64]]
    """By split, (m,)."""

    touched: float
    """Share of the clients that come to have a state, at most."""


def open_storage(
    comm: Communicator,
    nodes: Sequence[int],
    host_of: NDArray[np.int64],
    room: Capacity,
    *,
    scratch: str | None = None,
    together: bool = True,
) -> Storage:
    """Open what the ranks of each node share; a collective call.

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
    host_of : (m,)
        The rank on which each client lives.
    room
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
    folder = _folder(scratch)
    here = nodes[comm.rank] >= 0
    own = np.flatnonzero(np.asarray(nodes)[host_of] == nodes[comm.rank])
    first = here and nodes.index(nodes[comm.rank]) == comm.rank
    file, path, fault = None, None, None
    if first:
        file, path, fault = _create(folder, own, room)
    paths = comm.bcast_object(comm.gather_object(path))
    if here and not first and (path := paths[nodes.index(nodes[comm.rank])]):
        file, fault = _open(path)
    faults = comm.bcast_object(comm.gather_object(fault))
    if first and path:  # only now, when everybody has opened it
        path.unlink()
    found = next((fault for fault in faults if fault), None)
    if found and scratch is not None:
        comm.raise_collectively(ConfigError(f"scratch: {found}"))
    if found:
        return Storage(
            note=f"participants stay with their rank, which may wait for others: "
            f"{found}; scratch names another folder that ranks of a node may share"
        )
    if file is None:
        return Storage(nodes=tuple(nodes))
    turns = TicketCounter(file, 0, nodes.count(nodes[comm.rank])) if together else None
    states, samples = _cells(file, own, room)
    return Storage(states, SharedSampleStore(samples), turns, tuple(nodes))


def _folder(scratch: str | None) -> Path:
    if scratch is not None:
        return Path(scratch)
    return MEMORY if MEMORY.is_dir() else Path(gettempdir())


def _create(
    folder: Path, clients: NDArray[np.int64], room: Capacity
) -> tuple[MappedFile | None, Path | None, str | None]:
    """Make a node's file; or say what is in the way."""
    samples = sum(int(sizes[clients].sum()) for sizes in room.samples.values())
    needed = int(room.touched * int(room.states[clients].sum())) + samples
    try:
        free = disk_usage(folder).free
        if free < needed:
            fault = (
                f"{folder} has {free / 1e9:.3g} GB left, but states and samples of "
                f"{len(clients)} clients may take {needed / 1e9:.3g} GB"
            )
            return None, None, fault
        size = ALIGNMENT + sum(TensorArena.size(c) for _, c in _layout(clients, room))
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
    """Return what is in the way of drawing numbers from a file's beginning."""
    try:
        number = file.fetch_and_add(0)
        file.write(0, bytes(ALIGNMENT))
    except OSError as error:
        return f"{file.folder} knows no locks ({_reason(error)})"
    return None if number == 0 else f"{file.folder} gives {number} for 0"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _layout(
    clients: NDArray[np.int64], room: Capacity
) -> list[tuple[list[Any], Sequence[int]]]:
    """Return the keys and capacities of all cells: of states, then of samples."""
    own = clients.tolist()
    keys: Iterable[Any] = [(i, split) for split in room.samples for i in own]
    sizes = [n for split in room.samples for n in room.samples[split][clients].tolist()]
    return [(own, room.states[clients].tolist()), (list(keys), sizes)]


def _cells(
    file: MappedFile, clients: NDArray[np.int64], room: Capacity
) -> tuple[TensorArena, TensorArena]:
    (whose, states), (keys, samples) = _layout(clients, room)
    return (
        TensorArena(file, ALIGNMENT, whose, states),
        TensorArena(file, ALIGNMENT + TensorArena.size(states), keys, samples),
    )
