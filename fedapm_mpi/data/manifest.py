"""What a data set directory holds, as its ``manifest.json`` says. Reads JSON only."""

import hashlib
import math
import re
import stat
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.data.held_columns import Held, parse_held
from fedapm_mpi.data.manifest_checks import SPLITS, manifest_errors
from fedapm_mpi.data.number_types import BFLOAT16, stored_type
from fedapm_mpi.data.target import TargetSpec, parse_target
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.utils import strict_json
from fedapm_mpi.utils.text import format_value

__all__ = [
    "EXTENDED_SCHEMA_VERSION",
    "MANIFEST",
    "SCHEMA_VERSION",
    "SPLITS",
    "InputSpec",
    "Manifest",
    "ShardFile",
    "encode_manifest",
    "read_manifest",
    "schema_version",
]

SCHEMA_VERSION = 1
EXTENDED_SCHEMA_VERSION = 2
"""Of data sets with targets, an encoding, weights, or inputs that are codes, complex or
bfloat16; others are as they were."""

MANIFEST = "manifest.json"

_KEYS = frozenset(
    {
        "schema_version", "dataset", "inputs", "classes", "num_clients", "seed",
        "partitioner", "preparation", "files", "splits", "counts", "label_counts",
        "client_names", "lacking", "target", "encoding", "new_clients", "weights",
        "columns",
    }
)  # fmt: skip
"""What `manifest.json` may say. Another key is refused: it may be one whose name has
been damaged, or of a later version, and say something that must not be ignored."""


def schema_version(
    target: Any,
    encoding: Sequence[Any],
    inputs: Sequence["InputSpec"],
    weights: bool = False,
) -> int:
    """Return the version of the layout of a data set with such parts."""
    later = any(s.codes or s.complex or s.dtype == BFLOAT16 for s in inputs)
    extended = target is not None or len(encoding) > 0 or later or weights
    return EXTENDED_SCHEMA_VERSION if extended else SCHEMA_VERSION


@dataclass(frozen=True)
class InputSpec:
    """One input of every sample, as stored and as a model sees it.

    The value that a model sees is ``stored * scale + shift``, in the floating type of
    the run, or the complex one of its precision; codes are seen as they are stored, as
    integers.

    Attributes
    ----------
    name
        Name of the input, such as ``"image"``.
    shape
        Shape of one sample.
    dtype
        NumPy name of the stored type, or ``bfloat16``, of which the bits are stored as
        uint16.
    ragged
        Whether axis 0 is a time axis of varying length: ``shape[0]`` is then the
        longest length, shorter samples are padded, and true lengths are stored.
    scale, shift
        From the stored value to what a model sees.
    codes
        Of an input that holds codes, such as those of words, their number: values are
        integers from 0 to one below it, which models embed. 0 of an input of numbers.
    complex
        Whether values are complex: stored as real and imaginary part, numbers of type
        `dtype` along one more axis of 2, both of which `scale` multiplies. There is no
        shift then.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    ragged: bool = False
    scale: float = 1.0
    shift: float = 0.0
    codes: int = 0
    complex: bool = False

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Return the shape of one sample as stored."""
        return (*self.shape, 2) if self.complex else self.shape

    @property
    def stored_type(self) -> "np.dtype[Any]":
        """Return the type of the stored values."""
        return stored_type(self.dtype)

    @property
    def stored_bytes(self) -> int:
        """Return the bytes of one sample as stored."""
        return math.prod(self.stored_shape) * self.stored_type.itemsize

    def plain(self) -> dict[str, Any]:
        """Return what a manifest says of the input."""
        found = asdict(self)
        for key in _OPTIONAL:
            if not found[key]:
                del found[key]
        return found


_OPTIONAL = ("codes", "complex")
"""What a manifest says only of inputs that have it."""


@dataclass(frozen=True)
class ShardFile:
    """One HDF5 file of a data set; it holds the clients ``first`` to ``stop - 1``.

    Attributes
    ----------
    name, bytes, sha256
        Of the whole file.
    clients
        ``(first, stop)``.
    block_bytes, block_sums
        Size of the blocks that have a checksum each at the end of the file, and the
        SHA-256 of these checksums; see `blocksums`. 0 and empty in data sets that were
        written before there were any.
    """

    name: str
    bytes: int
    sha256: str
    clients: tuple[int, int]
    block_bytes: int = 0
    block_sums: str = ""


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
        Names of the labels 0, 1, …. Where there are targets, labels are ranges of them
        that samples are counted by.
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
    target
        What models are to give for a sample, where it is not the class.
    encoding
        How inputs were made of the columns of a table, one mapping for each; see
        `data_prep.table_encoding`.
    new_clients
        How many clients, the last ones, have no part in training: they are there to
        evaluate what clients get that come later.
    weights
        Whether each sample has a weight in the loss; see `Samples.weights`.
    columns
        Input name to the columns that each client has, by their numbers on the last
        axis, where clients have some only; the others are blank.
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
    target: TargetSpec | None = None
    encoding: tuple[Mapping[str, Any], ...] = ()
    new_clients: int = 0
    weights: bool = False
    columns: Held = field(default_factory=dict)

    @property
    def schema_version(self) -> int:
        """Return the version of the layout of its files."""
        return schema_version(self.target, self.encoding, self.inputs, self.weights)

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

    def first_clients(self, count: int | None) -> "Manifest":
        """Return a manifest with only the first clients, which new ones are not among.

        A `ShardReader` needs the whole manifest, which describes the files.

        Parameters
        ----------
        count
            Number of clients; `None` for all but the new ones.

        Raises
        ------
        ConfigError
            If the data set has fewer.
        """
        most = self.num_clients - self.new_clients
        if count is None:
            count = most
        if count > most:
            new = f", besides {self.new_clients} new ones" if self.new_clients else ""
            msg = f"clients is {count}, but the data set has only {most} clients{new}"
            raise ConfigError(msg)
        if count == self.num_clients:
            return self
        return replace(
            self,
            num_clients=count,
            counts={name: n[:count] for name, n in self.counts.items()},
            label_counts={name: n[:count] for name, n in self.label_counts.items()},
            client_names=self.client_names[:count],
            new_clients=0,
            lacking={
                name: tuple(client for client in clients if client < count)
                for name, clients in self.lacking.items()
            },
            columns={name: held[:count] for name, held in self.columns.items()},
        )

    @cached_property
    def _stops(self) -> list[int]:
        return [file.clients[1] for file in self.files]


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of ``manifest.json``: the same for the same contents."""
    tree = {
        "schema_version": manifest.schema_version,
        "dataset": manifest.dataset,
        "inputs": [spec.plain() for spec in manifest.inputs],
        "classes": list(manifest.classes),
        "num_clients": manifest.num_clients,
        "seed": manifest.seed,
        "partitioner": manifest.partitioner,
        "preparation": manifest.preparation,
        "files": [_file(file) for file in manifest.files],
        "splits": list(manifest.counts),
        "counts": {name: n.tolist() for name, n in manifest.counts.items()},
        "label_counts": {name: n.tolist() for name, n in manifest.label_counts.items()},
        "client_names": list(manifest.client_names),
        **({"lacking": manifest.lacking} if manifest.lacking else {}),
        **({} if manifest.target is None else {"target": manifest.target.plain()}),
        **({"encoding": list(manifest.encoding)} if manifest.encoding else {}),
        **({"new_clients": manifest.new_clients} if manifest.new_clients else {}),
        **({"weights": True} if manifest.weights else {}),
        **({"columns": manifest.columns} if manifest.columns else {}),
    }
    return strict_json.encode(tree)


def _file(file: ShardFile) -> dict[str, Any]:
    """Return what is written of a shard; of an old one, no more than was."""
    return {key: v for key, v in asdict(file).items() if v or key not in _OF_BLOCKS}


_OF_BLOCKS = ("block_bytes", "block_sums")


def read_manifest(directory: str | Path) -> Manifest:
    """Read and check the manifest of a data set directory.

    Raises
    ------
    DataError
        If it is missing, unreadable, of another schema version, or contradicts
        itself.
    """
    path = Path(directory) / MANIFEST
    raw = _raw(path)
    try:
        tree, sealed = strict_json.decode(raw)
        version = tree.get("schema_version")
        known = (SCHEMA_VERSION, EXTENDED_SCHEMA_VERSION)
        if type(version) is not int or version not in known:
            msg = (
                f"it has schema version {format_value(version)}, this program "
                f"reads {' and '.join(map(str, known))}"
            )
            raise ValueError(msg)
        manifest = _parse(tree, str(directory), hashlib.sha256(raw).hexdigest())
        extended = manifest.schema_version == EXTENDED_SCHEMA_VERSION
        if (version == EXTENDED_SCHEMA_VERSION) != extended:
            word = "a" if extended else "no"
            msg = (
                f"it has schema version {version}, and {word} target, encoding, "
                "weights, or input that is codes, complex or bfloat16"
            )
            raise ValueError(msg)
        found = manifest_errors(manifest, sealed)
    except (KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        msg = (
            f"{path} is not a valid manifest ({what[:200]}); copy it again or prepare "
            "the data set again"
        )
        raise DataError(msg) from error
    if found:
        msg = (
            f"{path} contradicts itself: {found[0][:200]}; copy it again or prepare "
            "the data set again"
        )
        raise DataError(msg)
    return manifest


def _raw(path: Path) -> bytes:
    try:
        # A pipe in its place would be waited for.
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            msg = f"{path} is not a file; prepare the data set again"
            raise DataError(msg)
        return path.read_bytes()
    except FileNotFoundError:
        msg = (
            f"{path} does not exist: {path.parent} is not a finished data set; "
            "make one with 'fedapm prepare'"
        )
        raise DataError(msg) from None
    except (OSError, ValueError) as error:
        msg = f"cannot read {path}: {getattr(error, 'strerror', None) or error}"
        raise DataError(msg) from error


def _parse(tree: dict[str, Any], directory: str, sha256: str) -> Manifest:
    unknown = sorted(tree.keys() - _KEYS)
    if unknown:
        msg = f"it has a key {format_value(unknown[0])}, which is unknown"
        raise ValueError(msg)
    splits = [strict_json.text(name, "a split") for name in _list(tree, "splits")]
    if len(set(splits)) < len(splits):
        msg = f"splits repeat ({format_value(', '.join(splits))})"
        raise ValueError(msg)
    numbers = {"counts": 1, "label_counts": 2}
    by_split = {
        key: _by_split(tree, key, splits, levels) for key, levels in numbers.items()
    }
    seed = tree["seed"]
    if type(seed) is not int:
        msg = f"seed is {format_value(seed)}, not an integer"
        raise ValueError(msg)
    lacking = strict_json.mapping(tree.get("lacking", {}), "lacking")
    return Manifest(
        directory=directory,
        dataset=strict_json.text(tree["dataset"], "dataset"),
        inputs=tuple(_input(spec) for spec in _list(tree, "inputs")),
        classes=_texts(tree, "classes"),
        num_clients=strict_json.integer(tree["num_clients"], "num_clients"),
        counts=by_split["counts"],
        client_names=_texts(tree, "client_names"),
        files=tuple(_shard(file) for file in _list(tree, "files")),
        partitioner=_written(tree, "partitioner"),
        seed=seed,
        sha256=sha256,
        label_counts=by_split["label_counts"],
        preparation=_written(tree, "preparation"),
        lacking={
            name: tuple(strict_json.integers(clients, "lacking").tolist())
            for name, clients in lacking.items()
        },
        target=parse_target(tree["target"]) if "target" in tree else None,
        encoding=tuple(_plain(one) for one in _list(tree, "encoding"))
        if "encoding" in tree
        else (),
        new_clients=strict_json.integer(tree["new_clients"], "new_clients", 1)
        if "new_clients" in tree
        else 0,
        weights=_true(tree, "weights"),
        columns=parse_held(tree.get("columns", {})),
    )


def _list(tree: dict[str, Any], key: str) -> list[Any]:
    return strict_json.list_of(tree[key], key)


def _true(tree: dict[str, Any], key: str) -> bool:
    """Return whether a key is there, which is then true."""
    if tree.get(key, True) is not True:
        msg = f"{key} is {format_value(tree[key])}, not true"
        raise ValueError(msg)
    return key in tree


def _texts(tree: dict[str, Any], key: str) -> tuple[str, ...]:
    return tuple(strict_json.text(name, f"one of {key}") for name in _list(tree, key))


def _by_split(
    tree: dict[str, Any], key: str, splits: list[str], levels: int
) -> dict[str, NDArray[np.int64]]:
    given = strict_json.mapping(tree[key], key)
    if len(given) > len(splits):
        msg = f"{key} has other splits than {', '.join(splits)}"
        raise ValueError(msg)
    return {
        split: strict_json.integers(given[split], f"{key} of {split}", levels)
        for split in splits
    }


def _written(tree: dict[str, Any], key: str) -> dict[str, Any]:
    """Return what a data set was made with, which is kept for people to read."""
    found = strict_json.mapping(tree[key], key)
    strict_json.check_plain(found)
    for part in strict_json.list_of(found.get("shift", []), f"shift of {key}"):
        strict_json.text(strict_json.mapping(part, "a shift").get("name"), "its name")
    for name in strict_json.list_of(found.get("skipped", []), f"skipped of {key}"):
        strict_json.text(name, f"one of skipped of {key}")
    strict_json.text(found.get("name", ""), f"name of {key}")
    return found


def _plain(one: Any) -> dict[str, Any]:
    found = strict_json.mapping(one, "an entry of encoding")
    strict_json.check_plain(found)
    return found


def _input(spec: Any) -> InputSpec:
    known = {"name", "shape", "dtype", "ragged", "scale", "shift"}
    spec = strict_json.mapping(spec, "an input")
    if spec.keys() - {*_OPTIONAL} != known:
        odd = sorted((spec.keys() - {*_OPTIONAL}) ^ known)[0]
        msg = f"an input has or lacks the key {format_value(odd)}"
        raise ValueError(msg)
    name = strict_json.text(spec["name"], "the name of an input")
    where = f"of input {format_value(name)}"
    if type(spec["ragged"]) is not bool:
        msg = f"ragged {where} is {format_value(spec['ragged'])}"
        raise ValueError(msg)
    shape = strict_json.integers(spec["shape"], f"shape {where}")
    return InputSpec(
        name=name,
        shape=tuple(shape.tolist()),
        dtype=strict_json.text(spec["dtype"], f"type {where}"),
        ragged=spec["ragged"],
        scale=strict_json.number(spec["scale"], f"scale {where}"),
        shift=strict_json.number(spec["shift"], f"shift {where}"),
        codes=strict_json.integer(spec["codes"], f"codes {where}", 1)
        if "codes" in spec
        else 0,
        complex=_true(spec, "complex"),
    )


def _shard(file: Any) -> ShardFile:
    known = {"name", "bytes", "sha256", "clients", *_OF_BLOCKS}
    file = strict_json.mapping(file, "a file")
    if file.keys() not in (known, known - {*_OF_BLOCKS}):
        msg = f"a file has the keys {format_value(', '.join(sorted(file)))}"
        raise ValueError(msg)
    clients = strict_json.integers(file["clients"], "clients of a file").tolist()
    first, stop = clients if len(clients) == 2 else (-1, -1)
    old = "block_bytes" not in file
    return ShardFile(
        name=strict_json.text(file["name"], "the name of a file"),
        bytes=strict_json.integer(file["bytes"], "bytes of a file", 1),
        sha256=_hash(file["sha256"]),
        clients=(first, stop),
        block_bytes=0
        if old
        else strict_json.integer(file["block_bytes"], "block_bytes", 64),
        block_sums="" if old else _hash(file["block_sums"]),
    )


def _hash(value: Any) -> str:
    found = strict_json.text(value, "the SHA-256 of a file")
    if not re.fullmatch(r"[0-9a-f]{64}", found):
        msg = f"{format_value(found)} is no SHA-256"
        raise ValueError(msg)
    return found
