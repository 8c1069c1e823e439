"""Small prepared data sets: a second on one core goes a long way with them."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.targets import counted
from fedapm_mpi.comm import Serial
from fedapm_mpi.data import writer
from fedapm_mpi.data.manifest import Manifest
from fedapm_mpi.data.table import Column, Table, column, label_counts
from fedapm_mpi.data.writer import write_dataset

CLASSES = ("left", "right", "up")
FEATURES = 6
STEPS = 16
"""Longest length of a sequence."""


def sizes(clients: int) -> NDArray[np.int64]:
    """Return uneven numbers of training samples, (clients,), none of them 1 mod 8.

    BatchNorm cannot train on a batch of one sample, so none must be left over.
    """
    return np.array([10 + 6 * (3 * i % 5) for i in range(clients)])


def write_all(root: Path) -> dict[str, Path]:
    """Write every small data set that tests train on; return its folder by name."""
    write_features(root / "features")
    write_features(root / "odd", constant=[2], untested=[3], untrained=[4], files=2)
    write_features(root / "alone", clients=1, files=1)
    write_motion(root / "motion")
    write_motion(root / "ragged", ragged=True)
    write_targets(root / "numbers", "real")
    write_targets(root / "tags", "binary")
    write_targets(root / "partial", "binary", partial=True)
    write_rows(root / "rows")
    write_texts(root / "texts")
    write_masks(root / "masks")
    write_motion(root / "lacking", lacking={"acc": [4], "gyro": [1, 3]})
    return {path.name: path for path in root.iterdir()}


def write_features(
    directory: Path,
    *,
    clients: int = 8,
    constant: Collection[int] = (),
    untested: Collection[int] = (),
    untrained: Collection[int] = (),
    files: int = 3,
) -> Manifest:
    """Write clients with vectors of features, whose classes each sees its own way.

    Feature 0 is a tenth of the client's number, so that a model can tell whose samples
    it has before it.

    Parameters
    ----------
    directory
        Where to.
    clients
        How many.
    constant
        Clients all of whose labels are the same.
    untested, untrained
        Clients without a sample to test or to train on.
    files
        Shards, at most one for each client.
    """
    rng = np.random.default_rng(5)
    owner = _owners(clients)
    x = rng.normal(size=(len(owner), FEATURES)).astype(np.float32)
    x[:, 0] = owner / 10
    labels = _labels(rng, x[:, 1:], owner, constant)
    table = Table("toy", [column("x", x)], labels, CLASSES)
    return _write(directory, table, owner, untested, untrained, files)


def write_motion(
    directory: Path,
    *,
    clients: int = 6,
    ragged: bool = False,
    lacking: Mapping[str, Collection[int]] | None = None,
) -> Manifest:
    """Write clients with two short sequences a sample, of true lengths if `ragged`.

    `lacking` names the clients that have no sample of an input.
    """
    rng = np.random.default_rng(6)
    owner = _owners(clients)
    n = len(owner)
    columns: list[Column] = []
    means = np.zeros((n, 0), np.float32)
    for name in ("acc", "gyro"):
        values = rng.normal(size=(n, STEPS, 3)).astype(np.float32)
        values += rng.normal(size=(n, 1, 3)).astype(np.float32)
        lengths = rng.integers(8, STEPS + 1, n) if ragged else None
        if lacking is not None:
            lengths = np.where(np.isin(owner, list(lacking[name])), 0, STEPS)
            values[lengths == 0] = 0
        made = column(name, values, lengths=lengths, scale=0.5)
        columns.append(replace(made, optional=lacking is not None))
        means = np.hstack([means, values.mean(axis=1)])
    table = Table("toy-motion", columns, _labels(rng, means, owner, ()), CLASSES)
    return _write(directory, table, owner, (), (), 2)


def write_targets(
    directory: Path, kind: str, *, clients: int = 8, partial: bool = False
) -> Manifest:
    """Write clients with features, and two numbers or three labels for each sample.

    If they are `partial`, samples lack some of them, and have weights.
    """
    rng = np.random.default_rng(8)
    owner = _owners(clients)
    x = rng.normal(size=(len(owner), FEATURES)).astype(np.float32)
    weights = rng.normal(size=(FEATURES, 3)) + rng.normal(size=(clients, FEATURES, 3))
    found = (x[:, :, None] * weights[owner]).sum(axis=1)
    found = np.round(8 * found) / 8  # the same on any processor
    values = (found > [0, 1, 2]).astype(np.uint8)
    if kind == "real":
        values = (found[:, :2] * [1, 30] + [5, -100]).astype(np.float32)
    names = [f"target {k}" for k in range(values.shape[1])]
    weights_of = None
    if partial:
        lacked = rng.random(values.shape) < 0.3
        lacked[np.arange(len(values)), rng.integers(values.shape[1], size=len(x))] = 0
        values = np.where(lacked, np.nan, values)
        weights_of = rng.integers(1, 9, len(x)) / 4
    made = counted(
        values, "real" if kind == "real" else "binary", "toy", names, partial
    )
    table = Table(
        "toy-targets",
        [column("x", x)],
        made.codes,
        made.ranges,
        target=made.target,
        weights=weights_of,
    )
    return _write(directory, table, owner, (), (), 2)


def write_rows(directory: Path, *, clients: int = 8) -> Manifest:
    """Write clients with rows of numbers and one code, each of which has an effect."""
    rng = np.random.default_rng(11)
    owner = _owners(clients)
    x = rng.normal(size=(len(owner), 4)).astype(np.float32)
    ward = rng.integers(0, 7, len(owner)).astype(np.uint8)
    effects = rng.normal(size=(7, 2)).astype(np.float32)
    labels = _labels(rng, np.hstack([x, effects[ward]]), owner, ())
    columns = [column("x", x), column("ward", ward, codes=7)]
    return _write(
        directory, Table("toy-rows", columns, labels, CLASSES), owner, (), (), 2
    )


def write_texts(directory: Path, *, clients: int = 6) -> Manifest:
    """Write clients with texts of different lengths, of codes that mostly count up."""
    rng = np.random.default_rng(9)
    owner = _owners(clients)
    n, length, codes = len(owner), 9, 5
    text = rng.integers(0, codes, (n, length + 1))
    for place in range(1, length + 1):
        follows = (text[:, place - 1] + 1 + owner % 2) % codes
        text[:, place] = np.where(rng.random(n) < 0.8, follows, text[:, place])
    lengths = rng.integers(2, length + 1, n)
    after = np.where(np.arange(length) < lengths[:, None], text[:, 1:], -1)
    made = counted(after, "dense", "toy", [f"code {k}" for k in range(codes)])
    table = Table(
        "toy-texts",
        [column("text", text[:, :-1].astype(np.uint8), lengths=lengths, codes=codes)],
        made.codes,
        made.ranges,
        target=made.target,
    )
    return _write(directory, table, owner, (), (), 2)


def write_masks(directory: Path, *, clients: int = 3) -> Manifest:
    """Write clients with images, and which pixels of them are bright, or out of it."""
    rng = np.random.default_rng(10)
    owner = _owners(clients)
    image = rng.integers(0, 256, (len(owner), 1, 6, 5)).astype(np.uint8)
    mask = (image[:, 0] > 100 + 20 * owner[:, None, None]).astype(np.int64)
    mask[:, 0] = -1
    made = counted(mask, "dense", "toy", ["dark", "bright"])
    table = Table(
        "toy-masks",
        [column("image", image, scale=1 / 128, shift=-1.0)],
        made.codes,
        made.ranges,
        target=made.target,
    )
    return _write(directory, table, owner, (), (), 1)


def write_inputs(
    directory: Path, shapes: Mapping[str, tuple[int, ...]], *, clients: int = 3
) -> Manifest:
    """Write clients with inputs of any shapes, whose means tell the class.

    Parameters
    ----------
    directory
        Where to.
    shapes
        Shape of a sample of each input, by name.
    clients
        How many.
    """
    rng = np.random.default_rng(7)
    owner = _owners(clients)
    n = len(owner)
    columns: list[Column] = []
    means = np.zeros((n, 0), np.float32)
    for name, shape in shapes.items():
        ones = [1] * len(shape)
        values = rng.normal(size=(n, *shape)).astype(np.float32)
        values += rng.normal(size=(n, *ones)).astype(np.float32)
        columns.append(column(name, values, scale=0.5))
        means = np.hstack([means, values.reshape(n, -1).mean(axis=1)[:, None]])
    table = Table("toy-inputs", columns, _labels(rng, means, owner, ()), CLASSES)
    return _write(directory, table, owner, (), (), 1)


def _owners(clients: int) -> NDArray[np.int64]:
    """Return the client of every sample: training samples, and half as many to test."""
    return np.repeat(np.arange(clients), sizes(clients) + sizes(clients) // 2)


def _labels(
    rng: np.random.Generator,
    x: NDArray[np.float32],
    owner: NDArray[np.int64],
    constant: Collection[int],
) -> NDArray[np.int64]:
    common = rng.normal(size=(x.shape[1], len(CLASSES)))
    own = rng.normal(size=(int(owner.max()) + 1, len(CLASSES)))
    labels = (x @ common + own[owner]).argmax(axis=1)
    labels[np.isin(owner, list(constant))] = 1
    return labels


def _write(
    directory: Path,
    table: Table,
    owner: NDArray[np.int64],
    untested: Collection[int],
    untrained: Collection[int],
    files: int,
) -> Manifest:
    clients = int(owner.max()) + 1
    rows = [np.flatnonzero(owner == i) for i in range(clients)]
    trained = sizes(clients)
    splits = {
        "train": [r[:n] for r, n in zip(rows, trained, strict=True)],
        "test": [
            r[n:] if i not in untested else r[:0]
            for i, (r, n) in enumerate(zip(rows, trained, strict=True))
        ],
    }
    manifest = write_dataset(directory, table, splits, shards=files)
    if untrained:
        manifest = _without_training_samples(manifest, table, splits, untrained)
    return manifest


def _without_training_samples(
    manifest: Manifest,
    table: Table,
    splits: dict[str, list[NDArray[np.int64]]],
    untrained: Collection[int],
) -> Manifest:
    """Write again what `write_dataset` refuses, as another writer of shards might."""
    train = [r[:0] if i in untrained else r for i, r in enumerate(splits["train"])]
    counts = manifest.counts | {"train": np.array([len(r) for r in train])}
    found = manifest.label_counts | {"train": label_counts(table, train)}
    changed = replace(manifest, counts=counts, label_counts=found)
    return writer._write_all(
        Path(manifest.directory),
        table,
        splits | {"train": train},
        [file.clients for file in manifest.files],
        changed,
        None,
        Serial(),
    )
