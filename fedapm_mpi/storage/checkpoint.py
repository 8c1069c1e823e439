"""Save and load the whole state of a run, for any number of ranks.

A checkpoint is a directory ``round-000042``: ``server.safetensors``, client states in
``clients-RRRRR-KKKKK.safetensors`` (tensors named ``client/field``; written by rank R)
and ``checkpoint.json`` with the size and SHA-256 of each file and of itself (see
`checkpoint_metadata`). Every rank writes its clients into a directory with a leading
dot; when all are done, rank 0 writes the JSON file and renames the directory. A
directory without a leading dot is therefore complete, and later damage is found by the
checksums.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from fedapm_mpi.algorithms.base import ClientState
from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.engine.tensor_files import (
    READ_ERRORS,
    read_tensors,
    tensor_names,
    write_tensors,
)
from fedapm_mpi.errors import CheckpointError, FedAPMError
from fedapm_mpi.storage.checkpoint_folder import find as find
from fedapm_mpi.storage.checkpoint_folder import prune, quarantine, rename_hidden
from fedapm_mpi.storage.checkpoint_metadata import (
    SERVER_FILE,
    name_of,
    write_description,
)
from fedapm_mpi.storage.checkpoint_metadata import CheckpointInfo as CheckpointInfo
from fedapm_mpi.utils.atomic_io import (
    file_sha256,
    fsync_path,
    open_regular,
    remove,
    stream_sha256,
    write_error,
)

FILE_BYTES = 2**28
"""Client states are cut into files of about this size."""

_KEY = re.compile(r"([0-9]+)/(.+)", re.DOTALL)


def write_states(
    directory: Path, rank: int, states: Mapping[int, ClientState]
) -> list[dict[str, Any]]:
    """Write client states into as few files as `FILE_BYTES` allows; return their list.

    Raises
    ------
    WriteError
        If a file cannot be written.
    """
    written = []
    for number, clients in enumerate(_portions(states)):
        path = directory / f"clients-{rank:05}-{number:05}.safetensors"
        tensors = {
            f"{client}/{name}": tensor
            for client in clients
            for name, tensor in states[client].items()
        }
        write_tensors(path, tensors)
        written.append(_entry(path, clients))
    return written


def save(
    comm: Communicator,
    root: Path,
    round_index: int,
    *,
    identity: Mapping[str, Any],
    server: Mapping[str, Tensor],
    states: Mapping[int, ClientState],
    keep: int,
    converged: bool = False,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Write a checkpoint; a collective call.

    Parameters
    ----------
    comm
        The ranks.
    root
        Directory of the run's checkpoints.
    round_index
        Rounds done.
    identity
        What a run must share to continue from here.
    server
        The server's arrays; used on the server only.
    states
        Materialized states of this rank's clients.
    keep
        Checkpoints to keep.
    converged
        Whether the stop rule is met.
    before
        Called on the server before the checkpoint can be found; may raise.
    """
    final = root / name_of(round_index)
    draft = root / f".{final.name}"
    error: FedAPMError | None = None
    if comm.rank == SERVER:
        error = fresh_directory(draft)
    comm.raise_collectively(error)
    everyone = _write_draft(comm, draft, server, states)
    if everyone is not None:
        note = {
            "round": round_index,
            "converged": converged,
            "identity": dict(identity),
            "files": [entry for files in everyone for entry in files],
        }
        try:
            _publish(draft, final, note, before)
            prune(root, keep)
        except OSError as caught:
            error = write_error(final, caught)
        except FedAPMError as caught:
            error = caught
    comm.raise_collectively(error)


def _write_draft(
    comm: Communicator,
    draft: Path,
    server: Mapping[str, Tensor],
    states: Mapping[int, ClientState],
) -> list[list[dict[str, Any]]] | None:
    """Write every rank's files; return the entries of all, on the server."""
    written: list[dict[str, Any]] = []
    error: FedAPMError | None = None
    try:
        written = write_states(draft, comm.rank, states)
        if comm.rank == SERVER:
            write_tensors(draft / SERVER_FILE, server)
            written.append(_entry(draft / SERVER_FILE, []))
    except FedAPMError as caught:
        error = caught
    comm.raise_collectively(error)
    return comm.gather_object(written)


def _publish(
    draft: Path, final: Path, note: Mapping[str, Any], before: Callable[[], None]
) -> None:
    """Describe a draft and give it its name, under which it counts."""
    write_description(draft, note)
    fsync_path(draft)
    before()
    rename_hidden(final)
    draft.rename(final)
    fsync_path(final.parent)


def find_corruption(saved: CheckpointInfo, names: Iterable[str]) -> str | None:
    """Return what is wrong with some of a checkpoint's files, or `None`."""
    listed = {entry["name"]: entry for entry in saved.files}
    for name in names:
        path, entry = saved.directory / name, listed[name]
        try:
            with open_regular(path) as file:
                if os.fstat(file.fileno()).st_size != entry["bytes"]:
                    return f"{path} is not of the size it was written with"
                if stream_sha256(file) != entry["sha256"]:
                    return f"{path} does not have the checksum it was written with"
            if name != SERVER_FILE:
                _check_clients(path, entry["clients"])
            elif saved.format == 1:
                _check_whole(saved)
        except OSError as error:
            return f"{path} cannot be read: {error.strerror or error}"
        except (SafetensorError, ValueError) as error:
            return f"{path} is not what a run writes: {str(error)[:200]}"
    return None


def load_newest(comm: Communicator, root: Path, notes: list[str]) -> CheckpointInfo:
    """Return the newest undamaged checkpoint, the same on every rank; collective.

    Each rank checks a share of the files. Damaged ones are quarantined and the one
    before is used; `notes` then says so, on the server.

    Raises
    ------
    CheckpointError
        If there is none.
    """
    error: FedAPMError | None = None
    found: list[CheckpointInfo] = []
    if comm.rank == SERVER:
        try:
            found = find(root, notes)
        except OSError as caught:
            error = CheckpointError(f"cannot read {root}: {caught.strerror or caught}")
        except FedAPMError as caught:
            error = caught
    comm.raise_collectively(error)
    for saved in comm.bcast_object(found):
        names = [entry["name"] for entry in saved.files]
        faults = comm.gather_object(
            find_corruption(saved, names[comm.rank :: comm.size])
        )
        fault = next((f for f in faults or () if f is not None), None)
        if comm.bcast_object((fault,) if comm.rank == SERVER else None) == (None,):
            if saved.format == 1:
                notes.append(
                    f"checkpoint {saved.directory.name} is of an older version, which "
                    "wrote no checksum of its description; what it says fits together"
                )
            return saved
        if comm.rank == SERVER:
            try:
                notes.append(quarantine(saved.directory, str(fault)))
            except FedAPMError as caught:
                error = caught
        comm.raise_collectively(error)
    msg = f"no usable checkpoint in {root}" + "".join(f"; {note}" for note in notes)
    error = CheckpointError(msg)
    comm.raise_collectively(error)  # all raise the server's, which knows the notes
    raise error


def load_states(
    saved: CheckpointInfo, clients: Iterable[int]
) -> dict[int, ClientState]:
    """Return the states of those of the given clients that the checkpoint holds.

    Raises
    ------
    CheckpointError
        If a file cannot be read.
    """
    wanted = set(clients)
    states: dict[int, ClientState] = {}
    for entry in saved.files:
        here = wanted.intersection(entry["clients"])
        if not here:
            continue
        tensors = _read(saved.directory / entry["name"], partial(_is_of, here))
        for key, tensor in tensors.items():
            client, _, name = key.partition("/")
            states.setdefault(int(client), {})[name] = tensor
    return states


def _is_of(clients: set[int], key: str) -> bool:
    return int(key.partition("/")[0]) in clients


def load_server(saved: CheckpointInfo) -> dict[str, Tensor]:
    """Return the server's arrays.

    Raises
    ------
    CheckpointError
        If they cannot be read.
    """
    return _read(saved.directory / SERVER_FILE)


def _read(path: Path, wanted: Callable[[str], bool] | None = None) -> dict[str, Tensor]:
    try:
        return read_tensors(path, wanted, copy=True)
    except READ_ERRORS as error:
        msg = f"cannot read {path}: {str(error)[:200]}"
        raise CheckpointError(msg) from error


def _portions(states: Mapping[int, ClientState]) -> Iterator[list[int]]:
    portion: list[int] = []
    size = 0
    for client, state in states.items():
        portion.append(client)
        size += sum(t.numel() * t.element_size() for t in state.values())
        if size >= FILE_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _entry(path: Path, clients: list[int]) -> dict[str, Any]:
    try:
        size, digest = path.stat().st_size, file_sha256(path)
    except OSError as error:
        raise write_error(path, error) from error
    return {"name": path.name, "bytes": size, "sha256": digest, "clients": clients}


def fresh_directory(draft: Path) -> FedAPMError | None:
    """Make an empty directory, in place of an old one; return what went wrong."""
    try:
        remove(draft)
        draft.mkdir(parents=True)
    except OSError as error:
        return write_error(draft, error)
    return None


def _check_clients(path: Path, clients: Iterable[int]) -> None:
    """Raise `ValueError` if a file holds tensors of clients other than the listed."""
    listed = set(clients)
    for key in tensor_names(path):
        found = _KEY.fullmatch(key)
        if found is None or int(found[1]) not in listed:
            msg = f"tensor {key!r} belongs to none of the clients that are listed"
            raise ValueError(msg)


def _check_whole(saved: CheckpointInfo) -> None:
    """Raise `ValueError` if clients or files are left out; only format 1 needs it."""
    listed = {entry["name"] for entry in saved.files}
    there = {path.name for path in saved.directory.glob("*.safetensors")}
    if there != listed:
        msg = f"the files next to it are not those listed: {min(there ^ listed)}"
        raise ValueError(msg)
    clients = {client for entry in saved.files for client in entry["clients"]}
    server = saved.directory / SERVER_FILE
    seen = read_tensors(server, lambda name: name == "seen", copy=True).get("seen")
    if seen is not None and set(seen.nonzero().flatten().tolist()) != clients:
        msg = "the clients that took part are not those listed"
        raise ValueError(msg)
