"""What a data set directory holds, as its ``manifest.json`` says. Reads JSON only."""

import hashlib
import json
from bisect import bisect_right
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
SPLITS = ("train", "test", "val")


@dataclass(frozen=True)
class InputSpec:
    """One input of every sample, as stored and as a model sees it.

    The float32 value that a model sees is ``stored * scale + shift``.

    Attributes
    ----------
    name
        Name of the input, such as ``"image"``.
    shape
        Shape of one sample.
    dtype
        NumPy name of the stored type.
    ragged
        Whether axis 0 is a time axis of varying length: ``shape[0]`` is then the
        longest length, shorter samples are padded, and true lengths are stored.
    scale, shift
        From the stored value to what a model sees.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    ragged: bool = False
    scale: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True)
class ShardFile:
    """One HDF5 file of a data set; it holds the clients ``first`` to ``stop - 1``."""

    name: str
    bytes: int
    sha256: str
    clients: tuple[int, int]


@dataclass(frozen=True)
class Manifest:
    """A prepared data set: everything but the samples.

    Attributes
    ----------
    directory
        Where the manifest was read.
    dataset
        Name of the data set.
    inputs
        The inputs, in the order in which a model is given them.
    classes
        Names of the labels 0, 1, ….
    num_clients
        Number m of clients.
    counts
        Split name to the ``(m,)`` samples of each client; always has ``train`` and
        ``test``, and ``val`` where the set has one.
    client_names
        A name for each client.
    files
        The shards, in client order; together they hold every client once.
    partitioner
        How samples were given to clients: name, options, and what it reported.
    seed
        Seed of the preparation.
    sha256
        SHA-256 of the manifest itself.
    label_counts
        Split name to the ``(m, classes)`` histogram of labels.
    preparation
        What the set was made from and with; equal for equal preparations.
    lacking
        Input name to the clients, in order, none of whose samples has it.
    """

    directory: str
    dataset: str
    inputs: tuple[InputSpec, ...]
    classes: tuple[str, ...]
    num_clients: int
    counts: dict[str, NDArray[np.int64]]
    client_names: tuple[str, ...]
    files: tuple[ShardFile, ...]
    partitioner: dict[str, Any]
    seed: int
    sha256: str
    label_counts: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    preparation: dict[str, Any] = field(default_factory=dict)
    lacking: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def shard_of(self, client: int) -> ShardFile:
        """Return the file that holds a client.

        Raises
        ------
        DataError
            If there is no such client.
        """
        if not 0 <= client < self.num_clients:
            msg = (
                f"{self.directory}: there is no client {client}; "
                f"the data set has clients 0 to {self.num_clients - 1}"
            )
            raise DataError(msg)
        return self.files[bisect_right(self._stops, client)]

    @cached_property
    def _stops(self) -> list[int]:
        return [file.clients[1] for file in self.files]


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of ``manifest.json``: the same for the same contents."""
    tree = {
        "schema_version": SCHEMA_VERSION,
        "dataset": manifest.dataset,
        "inputs": [asdict(spec) for spec in manifest.inputs],
        "classes": list(manifest.classes),
        "num_clients": manifest.num_clients,
        "seed": manifest.seed,
        "partitioner": manifest.partitioner,
        "preparation": manifest.preparation,
        "files": [asdict(file) for file in manifest.files],
        "splits": list(manifest.counts),
        "counts": {name: n.tolist() for name, n in manifest.counts.items()},
        "label_counts": {name: n.tolist() for name, n in manifest.label_counts.items()},
        "client_names": list(manifest.client_names),
        **({"lacking": manifest.lacking} if manifest.lacking else {}),
    }
    # One line a key: fit to be read by eye without a line for every number.
    lines = (f"{json.dumps(key)}: {json.dumps(tree[key])}" for key in tree)
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def read_manifest(directory: str | Path) -> Manifest:
    """Read and check the manifest of a data set directory.

    Raises
    ------
    DataError
        If it is missing, unreadable, of another schema version, or contradicts
        itself.
    """
    path = Path(directory) / MANIFEST
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        msg = (
            f"{path} does not exist: {directory} is not a finished data set; "
            "make one with 'fedapm prepare'"
        )
        raise DataError(msg) from None
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise DataError(msg) from error
    try:
        tree = json.loads(raw)
    except ValueError as error:
        msg = f"{path} is not valid JSON ({error}); prepare the data set again"
        raise DataError(msg) from error
    version = tree.get("schema_version") if isinstance(tree, dict) else None
    if version != SCHEMA_VERSION:
        msg = (
            f"{path} has schema version {version!r}, this program reads "
            f"{SCHEMA_VERSION}; prepare the data set again"
        )
        raise DataError(msg)
    try:
        manifest = _parse(tree, str(directory), hashlib.sha256(raw).hexdigest())
        faults = _faults(manifest)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        msg = f"{path} is not a valid manifest ({what}); prepare the data set again"
        raise DataError(msg) from error
    if faults:
        msg = f"{path} contradicts itself: {faults[0]}; prepare the data set again"
        raise DataError(msg)
    return manifest


def _parse(tree: dict[str, Any], directory: str, sha256: str) -> Manifest:
    inputs = tuple(
        InputSpec(**{**spec, "shape": tuple(int(n) for n in spec["shape"])})
        for spec in tree["inputs"]
    )
    files = tuple(
        ShardFile(
            name=str(file["name"]),
            bytes=int(file["bytes"]),
            sha256=str(file["sha256"]),
            clients=(int(file["clients"][0]), int(file["clients"][1])),
        )
        for file in tree["files"]
    )
    return Manifest(
        directory=directory,
        dataset=str(tree["dataset"]),
        inputs=inputs,
        classes=tuple(str(name) for name in tree["classes"]),
        num_clients=int(tree["num_clients"]),
        counts={
            name: np.array(tree["counts"][name], np.int64) for name in tree["splits"]
        },
        client_names=tuple(str(name) for name in tree["client_names"]),
        files=files,
        partitioner=dict(tree["partitioner"]),
        seed=int(tree["seed"]),
        sha256=sha256,
        label_counts={
            name: np.array(tree["label_counts"][name], np.int64)
            for name in tree["splits"]
        },
        preparation=dict(tree["preparation"]),
        lacking={
            name: tuple(int(client) for client in clients)
            for name, clients in tree.get("lacking", {}).items()
        },
    )


def _faults(manifest: Manifest) -> list[str]:
    """Return what in the manifest contradicts itself, in words."""
    m, classes = manifest.num_clients, len(manifest.classes)
    faults = []
    if m < 1 or classes < 1 or not manifest.inputs:
        faults.append("it needs at least one client, one class and one input")
    names = [spec.name for spec in manifest.inputs]
    if len(set(names)) < len(names):
        faults.append(f"input names repeat ({', '.join(names)})")
    for spec in manifest.inputs:
        if np.dtype(spec.dtype).kind not in "iuf" or min(spec.shape, default=1) < 1:
            faults.append(f"input {spec.name!r} has no usable shape or type")
        if spec.ragged and not spec.shape:
            faults.append(f"input {spec.name!r} is ragged but has no axis")
    for name, clients in manifest.lacking.items():
        if name not in names or sorted(set(clients) & set(range(m))) != list(clients):
            faults.append(f"it is not clear who lacks the input {name!r}")
    if len(manifest.client_names) != m:
        faults.append(f"{len(manifest.client_names)} client names for {m} clients")
    for split in ("train", "test"):
        if split not in manifest.counts:
            faults.append(f"there is no split {split!r}")
    for split, counts in manifest.counts.items():
        labels = manifest.label_counts[split]
        if split not in SPLITS:
            faults.append(f"unknown split {split!r}")
        if counts.shape != (m,) or (counts < 0).any():
            faults.append(f"counts of {split} are not {m} numbers of samples")
        elif labels.shape != (m, classes) or (labels < 0).any():
            faults.append(f"label counts of {split} are not {m} x {classes} numbers")
        elif (labels.sum(axis=1) != counts).any():
            faults.append(f"label counts of {split} do not add up to its counts")
    stop = 0
    for file in manifest.files:
        if Path(file.name).name != file.name or file.name in ("", ".", ".."):
            faults.append(f"{file.name!r} is not a file name")
        if file.clients[0] != stop or file.clients[1] <= stop:
            faults.append(f"{file.name} should begin with client {stop}")
        stop = file.clients[1]
    if stop != m:
        faults.append(f"the shards hold {stop} clients, not {m}")
    return faults
