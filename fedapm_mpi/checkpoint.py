"""Save and load the whole state of a run, for any number of ranks.

A checkpoint is a directory ``round-000042``: ``server.safetensors``, client states in
``clients-RRRRR-KKKKK.safetensors`` (tensors named ``client/field``; written by rank R)
and ``checkpoint.json`` with the size and SHA-256 of each file. Every rank writes its
clients into a directory with a leading dot; when all are done, rank 0 writes the JSON
file and renames the directory. What has no leading dot is therefore complete, and what
is damaged later is found by its checksum.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .algorithms.base import ClientState
from .comm import SERVER, Communicator
from .errors import FedAPMError
from .files import cannot_write, file_sha256, flush, write_text, write_whole

FORMAT = 1
FILE_BYTES = 2**28
"""Client states are cut into files of about this size."""


class CheckpointError(FedAPMError):
    """A checkpoint that is missing or damaged."""


@dataclass(frozen=True)
class Saved:
    """What a checkpoint says of itself."""

    directory: Path
    round_index: int
    """Rounds done."""

    identity: dict[str, Any]
    """What a run must have in common with this one to go on from here."""

    files: tuple[dict[str, Any], ...]
    """Name, bytes, sha256 and clients of each file."""


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


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: str | None = None
) -> None:
    """Write a safetensors file whole, with at most one string of metadata.

    One key only: the order of several is not fixed, and neither are then the bytes.
    """
    contiguous = {name: t.detach().contiguous() for name, t in tensors.items()}
    note = None if metadata is None else {"fedapm": metadata}
    try:
        write_whole(path, lambda part: save_file(contiguous, part, metadata=note))
    except SafetensorError as error:  # how the library reports a full disk
        path.with_name(f".{path.name}.part").unlink(missing_ok=True)
        raise cannot_write(path, OSError(str(error))) from error


def save(
    comm: Communicator,
    root: Path,
    round_index: int,
    *,
    identity: Mapping[str, Any],
    server: Mapping[str, Tensor],
    states: Mapping[int, ClientState],
    keep: int,
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
        What a run must share to go on from here.
    server
        The server's arrays; used on the server only.
    states
        Touched states of this rank's clients.
    keep
        Checkpoints to keep.
    """
    final = root / f"round-{round_index:06}"
    draft = root / f".{final.name}"
    error: FedAPMError | None = None
    if comm.rank == SERVER:
        error = fresh_directory(draft)
    comm.agree(error)
    written: list[dict[str, Any]] = []
    try:
        written = write_states(draft, comm.rank, states)
        if comm.rank == SERVER:
            write_tensors(draft / "server.safetensors", server)
            written.append(_entry(draft / "server.safetensors", []))
    except FedAPMError as caught:
        error = caught
    comm.agree(error)
    everyone = comm.gather(written)
    if everyone is not None:
        note = {
            "format": FORMAT,
            "round": round_index,
            "identity": dict(identity),
            "files": [entry for files in everyone for entry in files],
        }
        try:
            write_text(draft / "checkpoint.json", json.dumps(note, indent=1) + "\n")
            if final.exists():
                shutil.rmtree(final)
            draft.rename(final)
            flush(root)
            _prune(root, keep)
        except OSError as caught:
            error = cannot_write(final, caught)
        except FedAPMError as caught:
            error = caught
    comm.agree(error)


def find(root: Path, notes: list[str]) -> list[Saved]:
    """Return the checkpoints in a directory, the newest first.

    One whose description is unreadable is set aside, and `notes` told.
    """
    saved = []
    for directory in sorted(root.glob("round-*"), reverse=True):
        try:
            note = json.loads((directory / "checkpoint.json").read_text("utf-8"))
            files = tuple(dict(entry) for entry in note["files"])
            saved.append(Saved(directory, note["round"], note["identity"], files))
        except (OSError, ValueError, KeyError, TypeError) as error:
            notes.append(set_aside(directory, f"its description is unusable: {error}"))
    return saved


def set_aside(directory: Path, fault: str) -> str:
    """Rename a damaged checkpoint, so that it does not count as one; say so."""
    aside = directory.with_name(f"damaged-{directory.name}")
    shutil.rmtree(aside, ignore_errors=True)
    directory.rename(aside)
    return f"damaged checkpoint {directory.name} set aside as {aside.name}: {fault}"


def damage(saved: Saved, names: Iterable[str]) -> str | None:
    """Return what is wrong with some of a checkpoint's files, or `None`."""
    listed = {entry["name"]: entry for entry in saved.files}
    for name in names:
        path = saved.directory / name
        try:
            if path.stat().st_size != listed[name]["bytes"]:
                return f"{path} is not of the size it was written with"
            if file_sha256(path) != listed[name]["sha256"]:
                return f"{path} does not have the checksum it was written with"
        except OSError as error:
            return f"{path} cannot be read: {error.strerror or error}"
    return None


def load_newest(comm: Communicator, root: Path, notes: list[str]) -> Saved:
    """Return the newest undamaged checkpoint, the same on every rank; collective.

    Each rank checks a share of the files. Damaged ones are set aside and the one before
    is used; `notes` then says so, on the server.

    Raises
    ------
    CheckpointError
        If there is none.
    """
    candidates = comm.share(find(root, notes) if comm.rank == SERVER else None)
    for saved in candidates:
        names = [entry["name"] for entry in saved.files]
        faults = comm.gather(damage(saved, names[comm.rank :: comm.size]))
        fault = next((f for f in faults or () if f is not None), None)
        if comm.share((fault,) if comm.rank == SERVER else None) == (None,):
            return saved
        if comm.rank == SERVER:
            notes.append(set_aside(saved.directory, str(fault)))
    msg = f"no usable checkpoint in {root}" + "".join(f"; {note}" for note in notes)
    error = CheckpointError(msg)
    comm.agree(error)  # all raise the server's, which knows the notes
    raise error


def load_states(saved: Saved, clients: Iterable[int]) -> dict[int, ClientState]:
    """Return the states of those of the given clients that the checkpoint holds."""
    wanted = set(clients)
    states: dict[int, ClientState] = {}
    for entry in saved.files:
        here = wanted.intersection(entry["clients"])
        if not here:
            continue
        with safe_open(saved.directory / entry["name"], framework="pt") as file:
            for key in file.keys():  # noqa: SIM118  (not a mapping)
                client, _, name = key.partition("/")
                if int(client) in here:
                    # A copy of its own, since the file is mapped into memory.
                    states.setdefault(int(client), {})[name] = _own(
                        file.get_tensor(key)
                    )
    return states


def load_server(saved: Saved) -> dict[str, Tensor]:
    """Return the server's arrays."""
    with safe_open(saved.directory / "server.safetensors", framework="pt") as file:
        return {key: _own(file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118


def _own(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor).copy_(tensor)


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
    return {
        "name": path.name,
        "bytes": path.stat().st_size,
        "sha256": file_sha256(path),
        "clients": clients,
    }


def fresh_directory(draft: Path) -> FedAPMError | None:
    """Make an empty directory, in place of an old one; return what went wrong."""
    try:
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir(parents=True)
    except OSError as error:
        return cannot_write(draft, error)
    return None


def _prune(root: Path, keep: int) -> None:
    for old in sorted(root.glob("round-*"))[:-keep]:
        # Hidden first, so that a crash while deleting leaves no half checkpoint.
        hidden = old.with_name(f".old-{old.name}")
        old.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)
    for left in [*root.glob(".round-*"), *root.glob(".old-*")]:
        shutil.rmtree(left, ignore_errors=True)
