"""Extract features on all ranks, chunk by chunk, so that it can be continued.

A folder of features holds ``chunk-00000`` and so on, each with ``INPUT.npy`` (the steps
of all its items, concatenated), ``INPUT.length.npy`` for sequences, and ``items.json``,
which lists the items; and finally ``features.json``. A chunk does not depend on the
rank that makes it, so neither the number of ranks nor a restart changes a byte.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.extractors import BrokenItem, Extractor, Items
from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.config.plugin_sources import KEY
from fedapm_mpi.errors import DataError, FedAPMError
from fedapm_mpi.plugins.errors import to_fedapm_error
from fedapm_mpi.utils.atomic_io import fsync_path, why_not_written, write_text

CHUNK = 64
"""Items of a chunk."""

IDENTITY = "extraction.json"
FEATURES = "features.json"
ITEMS = "items.json"
SCHEMA = 1


def extract(
    comm: Communicator,
    extractor: Extractor,
    directory: Path,
    *,
    identity: Mapping[str, Any],
    skip_broken: bool,
    tell: Callable[[int, int], None],
) -> dict[str, Any]:
    """Extract all items that are missing; a collective call.

    Parameters
    ----------
    comm
        The ranks; each makes its share of the chunks.
    extractor
        Extractor of the archive.
    directory
        Folder of the features, which is made if it is missing.
    identity
        What the features depend on; a folder with another identity is refused.
    skip_broken
        Whether to leave out items whose files can't be used.
    tell
        Called on rank 0 with the number of finished chunks and of all.

    Returns
    -------
    dict
        The content of ``features.json``.

    Raises
    ------
    DataError
        If the archive is damaged, or the folder holds other features.
    """
    items = _begin(comm, extractor, directory, identity)
    number = -(-len(items.names) // CHUNK)
    missing: list[int] = comm.bcast_object(
        [c for c in range(number) if not _chunk(directory, c).exists()]
        if comm.rank == SERVER
        else None
    )
    for start in range(0, len(missing), comm.size):
        if comm.rank == SERVER:
            tell(number - len(missing) + start, number)
        error: FedAPMError | None = None
        if start + comm.rank < len(missing):
            try:
                _make(
                    extractor, items, directory, missing[start + comm.rank], skip_broken
                )
            except Exception as caught:  # whatever a user's own extractor raises
                error = to_fedapm_error(caught)
        comm.raise_collectively(error)
    return _finish(comm, extractor, directory, items, number, tell)


def _begin(
    comm: Communicator,
    extractor: Extractor,
    directory: Path,
    identity: Mapping[str, Any],
) -> Items:
    """Read the tables on rank 0 and claim the folder; return the items everywhere."""
    items: Items | None = None
    error: FedAPMError | None = None
    if comm.rank == SERVER:
        try:
            items = extractor.items()
            whole = {**identity, "facts": extractor.facts(), "chunk": CHUNK}
            _claim(directory, json.dumps(whole, indent=1) + "\n")
        except Exception as caught:  # whatever a user's own extractor raises
            error = to_fedapm_error(caught)
    comm.raise_collectively(error)
    return comm.bcast_object(items)


def _claim(directory: Path, identity: str) -> None:
    """Make the folder with its identity, or check that it has the same."""
    path = directory / IDENTITY
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if path.exists():
            before, now = json.loads(path.read_text("utf-8")), json.loads(identity)
            keys = sorted({*before, *now})
            differing = [
                key
                for key in keys
                # Features that were made before code was recorded lack its hashes.
                if before.get(key) != now.get(key) and (key != KEY or key in before)
            ]
            if differing:
                msg = (
                    f"{directory} holds features that were made otherwise (they differ "
                    f"in: {', '.join(differing)}); choose another folder"
                )
                raise DataError(msg)
        elif any(directory.iterdir()):
            msg = f"{directory} is not empty and has no features; choose another folder"
            raise DataError(msg)
        else:
            write_text(path, identity)
    except (OSError, ValueError) as error:
        msg = f"cannot use {directory} for features: {error}"
        raise DataError(msg) from error


def _chunk(directory: Path, number: int) -> Path:
    return directory / f"chunk-{number:05d}"


def _make(
    extractor: Extractor,
    items: Items,
    directory: Path,
    number: int,
    skip_broken: bool,
) -> None:
    """Extract a chunk's items and write them, whole or not at all."""
    rows = range(number * CHUNK, min((number + 1) * CHUNK, len(items.names)))
    kept: list[int] = []
    broken: dict[str, str] = {}
    found: dict[str, list[NDArray[np.float32]]] = {n: [] for n in extractor.inputs}
    for row in rows:
        try:
            features = extractor.extract(items.payload[row])
        except BrokenItem as error:
            if not skip_broken:
                msg = (
                    f"{items.names[row]}: {error}; leave out all such items with "
                    "skip_broken=true"
                )
                raise DataError(msg) from error
            broken[items.names[row]] = str(error)
            continue
        kept.append(row)
        for name, values in found.items():
            values.append(_checked(extractor, items.names[row], name, features))
    _write(_chunk(directory, number), extractor, found, kept, broken)


def _checked(
    extractor: Extractor, item: str, name: str, features: Mapping[str, Any]
) -> NDArray[np.float32]:
    """Return an item's features of one input, checked to have the declared shape."""
    longest, width = extractor.inputs[name]
    values = np.asarray(features.get(name, ()), np.float32)
    expected = (width,) if longest is None else (len(values), width)
    if values.shape != expected or len(values) > (longest or width):
        msg = (
            f"{item}: the extractor gives {name!r} of shape {values.shape}, but "
            f"declares ({'' if longest is None else f'at most {longest}, '}{width})"
        )
        raise DataError(msg)
    return values


def _write(
    target: Path,
    extractor: Extractor,
    found: Mapping[str, list[NDArray[np.float32]]],
    kept: list[int],
    broken: Mapping[str, str],
) -> None:
    draft = target.with_name(f".{target.name}")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        for name, (longest, width) in extractor.inputs.items():
            if longest is None:
                joined = np.array(found[name], np.float32).reshape(-1, width)
            else:
                empty = np.zeros((0, width), np.float32)
                joined = np.concatenate([empty, *found[name]])
                lengths = np.array([len(x) for x in found[name]], np.int32)
                np.save(draft / f"{name}.length.npy", lengths)
            np.save(draft / f"{name}.npy", joined)
        text = json.dumps({"kept": kept, "broken": dict(broken)})
        (draft / ITEMS).write_text(text + "\n", "utf-8")
        for path in [*draft.iterdir(), draft]:
            fsync_path(path)
        draft.rename(target)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        reason, remedy = why_not_written(error)
        msg = (
            f"cannot write {target}: {reason}; {remedy}, then start it again: it "
            "continues with what is missing"
        )
        raise DataError(msg) from error


def _finish(
    comm: Communicator,
    extractor: Extractor,
    directory: Path,
    items: Items,
    number: int,
    tell: Callable[[int, int], None],
) -> dict[str, Any]:
    """Write what all chunks hold; return it on every rank."""
    summary: dict[str, Any] | None = None
    error: FedAPMError | None = None
    if comm.rank == SERVER:
        tell(number, number)
        try:
            summary = _summary(extractor, directory, items, number)
            write_text(directory / FEATURES, json.dumps(summary) + "\n")
        except FedAPMError as caught:
            error = caught
    comm.raise_collectively(error)
    return comm.bcast_object(summary)


def _summary(
    extractor: Extractor, directory: Path, items: Items, number: int
) -> dict[str, Any]:
    kept: list[int] = []
    skipped = dict(items.skipped or {})
    for k in range(number):
        try:
            chunk = json.loads((_chunk(directory, k) / ITEMS).read_text("utf-8"))
        except (OSError, ValueError) as error:
            msg = f"{_chunk(directory, k)} is damaged ({error}); remove it and continue"
            raise DataError(msg) from error
        kept += chunk["kept"]
        skipped |= chunk["broken"]
    if not kept:
        msg = f"{directory}: every item is broken, so no features remain"
        raise DataError(msg)
    columns = {
        key: [column[row] for row in kept]
        for key, column in asdict(items).items()
        if key in ("names", "labels", "clients", "splits", "groups") and column
    }
    return {
        "schema_version": SCHEMA,
        "dataset": extractor.dataset,
        "inputs": {name: list(shape) for name, shape in extractor.inputs.items()},
        "classes": list(items.classes),
        "chunks": number,
        "skipped": skipped,
        **columns,
    }
