"""Write a data set directory from any iterator of samples, in any order.

::

    from data_prep import Sample, write_samples
    from fedapm_mpi.data.manifest import InputSpec

    def samples():
        for person, features, label in my_database():
            yield Sample(person, "train", {"x": features}, label)

    write_samples(
        "data/mine", samples(), dataset="mine", classes=["no", "yes"],
        inputs=[InputSpec("x", (12,), "float32")],
    )

With ``target="real"`` or ``"binary"`` in place of classes, a label is one number, or
one for each of ``target_names``; with ``"dense"``, an array with the class of each
position, negative where there is none.
"""

import os
import shutil
from array import array
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from data_prep.gathered import as_array
from data_prep.sample_fields import (
    MAX_EXACT_INTEGER,
    control_characters,
    is_missing,
    max_exact_integer,
)
from data_prep.split_checks import check_trained
from data_prep.targets import counted
from fedapm_mpi.data.hdf5 import Compression
from fedapm_mpi.data.manifest import MANIFEST, SPLITS, InputSpec, Manifest
from fedapm_mpi.data.number_types import is_floating, numbers, pairs, stored
from fedapm_mpi.data.table import MAX_WEIGHT, Column, Table, check_description
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils.new_folders import no_empty_folders
from fedapm_mpi.utils.text import format_some, truncate

REMEDY = "leave such clients out, or give some of their samples the split 'train'"


class Sample(NamedTuple):
    """One sample."""

    client: Hashable
    """Name or number of its client, of the same kind for all samples."""

    split: str
    """train, test or val."""

    inputs: Mapping[str, Any]
    """The inputs by name, each an array of the declared shape; axis 0 of a ragged input
    has its true length."""

    label: Any
    """Index of its class, from 0; or its target, a number or a sequence of numbers."""

    weight: float | None = None
    """How much it counts in the loss, above 0; for all samples, or for none."""


REQUIRED = ("client", "split", "inputs", "label")


def write_samples(
    directory: str | Path,
    samples: Iterable[Sample],
    *,
    dataset: str,
    inputs: Sequence[InputSpec],
    classes: Sequence[str] | None = None,
    target: Literal["real", "binary", "dense"] | None = None,
    target_names: Sequence[str] = (),
    incomplete: bool = False,
    scratch: str | Path | None = None,
    shards: int | None = None,
    compression: Compression | None = None,
    force: bool = False,
) -> Manifest:
    """Write a data set directory from an iterator of samples, which is read once.

    Samples are spooled to disk first: memory holds 13 bytes per sample, or 9 and 8 for
    each target (4 for each position, if dense), 8 for a weight, and some blocks.
    Clients are numbered by their sorted names; a client's samples keep their order.

    Parameters
    ----------
    directory
        Where to write.
    samples
        The samples.
    dataset
        Name of the data set.
    inputs
        Name, shape, stored type, raggedness, scale and shift of each input, and whether
        it is complex: values are then complex, or pairs of parts along one more axis.
    classes
        Names of the labels 0, 1, ..., where samples or their positions have a class
        each; needed unless `target` says otherwise, and optional where it is ``dense``.
    target, target_names
        What labels are where they are no classes, and the names of targets: see
        `data_prep.targets.counted`.
    incomplete
        Whether samples may lack some of several targets, which are then NaN.
    scratch
        Folder of the spool, which is as large as the data set and is always removed;
        `directory` if None.
    shards, compression, force
        See `fedapm_mpi.data.writer.write_dataset`.

    Raises
    ------
    DataError
        If a sample differs from its declaration (the message counts samples from 0),
        there are none, a client has none for training, or writing fails.
    """
    folder = Path(directory)
    check_unused(folder, force)
    if target != "dense" and (classes is None) == (target is None):
        msg = f"{dataset}: give either classes or target, which says what labels are"
        raise DataError(msg)
    if target_names and target in (None, "dense"):
        msg = f"{dataset}: target_names has no effect with classes; leave it out"
        raise DataError(msg)
    # Ranges of targets are known when all samples are.
    check_description(dataset, inputs, ["targets"] if classes is None else classes)
    labelled = _labels(dataset, classes, target, target_names, incomplete)
    with _spool_folder(Path(scratch or folder)) as spool:
        table, owners, splits, names = _spooled(spool, samples, labelled, inputs)
        rows = _rows_by_split(owners, splits, len(names))
        check_trained(rows, names, dataset, published=True, remedy=REMEDY)
        return write_dataset(
            folder,
            table,
            rows,
            client_names=names,
            shards=shards,
            compression=compression,
            force=force,
        )


def check_unused(folder: Path, force: bool) -> None:
    """Refuse a folder that has a finished data set, unless it is to be replaced.

    Raises
    ------
    DataError
        If it has one.
    """
    if (folder / MANIFEST).exists() and not force:
        msg = f"{folder} already holds a finished data set; choose another directory"
        raise DataError(msg)


@contextmanager
def _spool_folder(parent: Path) -> Iterator[Path]:
    """Make a folder for the spool, and remove it in the end."""
    spool = parent / f".spool-{os.getpid()}"
    with no_empty_folders(parent):
        try:
            spool.mkdir(parents=True)
            yield spool
        except OSError as error:
            msg = f"cannot spool samples in {parent}: {error.strerror or error}"
            raise DataError(msg) from error
        finally:
            shutil.rmtree(spool, ignore_errors=True)


def _spooled(
    folder: Path,
    samples: Iterable[Sample],
    labels: "_Labels | _DenseLabels",
    inputs: Sequence[InputSpec],
) -> tuple[Table, NDArray[np.int64], NDArray[np.int8], list[str]]:
    """Spool all inputs; return the table, the clients, splits, and clients' names."""
    clients: dict[Any, int] = {}
    owners, codes, weights = array("i"), array("b"), array("d")
    lengths = {spec.name: array("i") for spec in inputs if spec.ragged}
    paths = {spec.name: folder / f"{k}.bin" for k, spec in enumerate(inputs)}
    files = {name: path.open("wb") for name, path in paths.items()}
    try:
        for number, sample in enumerate(samples):
            found = _checked(number, sample, inputs, labels)
            for spec in inputs:
                values = found[spec.name]
                if spec.ragged:
                    lengths[spec.name].append(len(values))
                    values = _padded(values, spec)
                files[spec.name].write(values.tobytes())
            client = _client(number, sample.client, clients)
            owners.append(clients.setdefault(client, len(clients)))
            codes.append(SPLITS.index(sample.split))
            if getattr(sample, "weight", None) is not None:
                weights.append(_weight(number, sample.weight))
            if weights and len(weights) <= number:
                msg = (
                    f"sample {number} or one before has no weight; give all of them one"
                )
                raise DataError(msg)
    finally:
        for file in files.values():
            file.close()
    if not clients:
        msg = f"{labels.dataset}: there are no samples"
        raise DataError(msg)
    ordered = sorted(clients)
    place = np.empty(len(ordered), np.int64)
    place[[clients[client] for client in ordered]] = np.arange(len(ordered))
    columns = [
        _column(paths[spec.name], spec, lengths.get(spec.name)) for spec in inputs
    ]
    of_sample = place[np.array(owners, np.int64)]
    # Counted client by client: the same in whatever order the clients come.
    numbers = np.empty(len(of_sample), np.int64)
    numbers[np.argsort(of_sample, kind="stable")] = np.arange(len(of_sample))
    table = replace(
        labels.table(columns),
        numbers=numbers,
        weights=np.array(weights) if weights else None,
    )
    return table, of_sample, np.array(codes, np.int8), [str(c) for c in ordered]


def _labels(
    dataset: str,
    classes: Sequence[str] | None,
    target: Literal["real", "binary", "dense"] | None,
    names: Sequence[str],
    incomplete: bool,
) -> "_Labels | _DenseLabels":
    if incomplete and target in (None, "dense"):
        msg = f"{dataset}: incomplete has no effect with classes; leave it out"
        raise DataError(msg)
    if target == "dense":
        return _DenseLabels(dataset, classes or ())
    return _Labels(dataset, classes, target, names, incomplete)


class _DenseLabels:
    """Gathers the classes of samples' positions, 4 bytes each."""

    def __init__(self, dataset: str, names: Sequence[str]) -> None:
        self.dataset = dataset
        self._names = tuple(names)
        self._shape: tuple[int, ...] | None = None
        self._values = array("i")

    def add(self, where: str, label: Any) -> None:
        """Add a sample's classes.

        Raises
        ------
        DataError
            If they are no integers, or of another shape than those of other samples.
        """
        try:
            given = np.asarray(label)
            numbers = given.astype(np.int32, casting="same_kind")
        except (TypeError, ValueError):
            given = numbers = np.empty(0, np.int32)
        shape = self._shape or given.shape
        if not shape or 0 in shape or given.shape != shape:
            wanted = "integers, one for each position"
            if self._shape:
                wanted = f"integers of shape {self._shape}, as before"
            msg = f"{where}: its target is {truncate(repr(label))}, not {wanted}"
            raise DataError(msg)
        self._shape = shape
        self._values.frombytes(np.ascontiguousarray(numbers).tobytes())

    def table(self, columns: Sequence[Column]) -> Table:
        """Return a table of all samples."""
        values = np.frombuffer(self._values, np.int32)
        made = counted(
            values.reshape(-1, *(self._shape or (1,))),
            "dense",
            self.dataset,
            self._names,
        )
        return Table(self.dataset, columns, made.codes, made.ranges, target=made.target)


class _Labels:
    """Gathers the labels of samples: one class each, or k targets."""

    def __init__(
        self,
        dataset: str,
        classes: Sequence[str] | None,
        target: Literal["real", "binary"] | None,
        names: Sequence[str],
        incomplete: bool,
    ) -> None:
        self.dataset, self._incomplete = dataset, incomplete
        self._classes, self._target, self._names = classes, target, tuple(names)
        self._width: int | None = len(names) or None
        self._values = array("i") if target is None else array("d")

    def add(self, where: str, label: Any) -> None:
        """Add a sample's label.

        Raises
        ------
        DataError
            If it is out of range, or there are as many targets as in no other sample.
        """
        if self._classes is not None:
            self._values.append(_class_number(where, label, len(self._classes)))
            return
        try:
            given = np.atleast_1d(np.asarray(label, np.float64))
        except (TypeError, ValueError):
            given = np.empty((0, 0))
        width = self._width or given.size
        finite = np.isfinite(given)
        enough = finite | np.isnan(given) if self._incomplete else finite
        fits = given.shape == (width,) and width and enough.all() and finite.any()
        if not fits:
            msg = (
                f"{where}: its target is {truncate(repr(label))}, not "
                f"{width or 'one or several'} finite number(s)"
            )
            raise DataError(msg)
        self._width = width
        self._values.extend(given.tolist())

    def table(self, columns: Sequence[Column]) -> Table:
        """Return a table of all samples."""
        if self._target is None:
            assert self._classes is not None
            codes = np.array(self._values, np.int64)
            return Table(self.dataset, columns, codes, self._classes)
        values = np.array(self._values).reshape(-1, self._width or 1)
        made = counted(
            values, self._target, self.dataset, self._names, self._incomplete
        )
        return Table(self.dataset, columns, made.codes, made.ranges, target=made.target)


def _class_number(where: str, label: Any, num_classes: int) -> int:
    # In this form, NaN is refused: no comparison with it is true.
    number_like = isinstance(label, (int, float, np.integer, np.floating, np.bool_))
    if not number_like or not 0 <= label < num_classes or label != int(label):
        said = truncate(str(label) if number_like else repr(label))
        msg = f"{where}: label {said} is not in 0 to {num_classes - 1}"
        raise DataError(msg)
    return int(label)


def _weight(number: int, weight: Any) -> float:
    """Return a sample's weight.

    Raises
    ------
    DataError
        If it is no number, or not positive and finite.
    """
    try:
        found = float(weight)
    except (TypeError, ValueError):
        found = float("nan")
    if not 0 < found <= MAX_WEIGHT:
        msg = (
            f"sample {number} has the weight {truncate(repr(weight))}, not a number "
            f"above 0 and at most {MAX_WEIGHT:g}"
        )
        raise DataError(msg)
    return found


def _client(number: int, client: Any, others: Mapping[Any, int]) -> Hashable:
    """Return a sample's client; whole floats, as pandas makes them, as integers.

    Raises
    ------
    DataError
        If it is missing, cannot name a client, or is of another kind than the others.
    """
    if isinstance(client, bytes):
        client = client.decode("utf-8", "backslashreplace")
    numeric = isinstance(client, (float, np.floating))
    if client is None or (numeric and not np.isfinite(client)) or is_missing(client):
        msg = (
            f"sample {number} has no client ({truncate(repr(client))}); name one for "
            "each sample, or leave it out"
        )
        raise DataError(msg)
    if isinstance(client, str) and control_characters(client):
        msg = (
            f"sample {number}: the client {truncate(ascii(client))} has characters "
            f"that cannot be shown ({control_characters(client)}); rename it"
        )
        raise DataError(msg)
    if numeric and client == int(client):
        limit = MAX_EXACT_INTEGER
        if isinstance(client, np.floating):
            limit = max_exact_integer(client.dtype)
        if abs(client) >= limit:
            msg = (
                f"sample {number}: the client {client!r} is a float, and from {limit} "
                "on such floats do not hold every whole number, so that one may stand "
                "for several; name clients by integers or texts"
            )
            raise DataError(msg)
        client = int(client)
    first = next(iter(others), client)
    texts = isinstance(client, str), isinstance(first, str)
    try:
        hash(client)
        fits = texts[0] == texts[1] and (client < first) in (True, False)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        msg = (
            f"sample {number}: the client {truncate(repr(client))} cannot be sorted "
            f"among others such as {truncate(repr(first))}; name clients by texts, or "
            "by integers"
        )
        raise DataError(msg)
    return cast("Hashable", client)


def _checked(
    number: int,
    sample: Any,
    inputs: Sequence[InputSpec],
    labels: "_Labels | _DenseLabels",
) -> dict[str, NDArray[Any]]:
    """Return a sample's inputs as stored, and add its label.

    Those that are not as declared are refused.
    """
    if not all(hasattr(sample, field) for field in REQUIRED):
        msg = f"sample {number} is a {type(sample).__name__}, not a Sample"
        raise DataError(msg)
    where = f"sample {number}, of client {truncate(repr(sample.client))}"
    if not isinstance(sample.split, str) or sample.split not in SPLITS:
        said = truncate(repr(sample.split))
        msg = f"{where}: the split is {said}, not one of {', '.join(SPLITS)}"
        raise DataError(msg)
    labels.add(where, sample.label)
    if not isinstance(sample.inputs, Mapping):
        msg = f"{where}: its inputs are no mapping from names to arrays"
        raise DataError(msg)
    if sample.inputs.keys() != {spec.name for spec in inputs}:
        msg = (
            f"{where}: it has the inputs {format_some(list(sample.inputs))}, announced "
            f"are {', '.join(spec.name for spec in inputs)}"
        )
        raise DataError(msg)
    return {
        spec.name: _stored(
            f"{where}: input {spec.name!r}", spec, sample.inputs[spec.name]
        )
        for spec in inputs
    }


def _stored(where: str, spec: InputSpec, given: Any) -> NDArray[Any]:
    """Return an input's values as stored, if they are as declared."""
    try:
        held = values = as_array(given)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        msg = f"{where} is no array ({truncate(str(error))})"
        raise DataError(msg) from error
    if np.ma.is_masked(given):
        msg = f"{where} has masked values; fill them"
        raise DataError(msg)
    if spec.complex and values.dtype.kind == "c":
        values = pairs(values)
    shape = spec.stored_shape
    fits = values.shape == shape
    if spec.ragged:
        fits = values.ndim == len(shape) and values.shape[1:] == shape[1:]
        fits = fits and 1 <= len(values) <= shape[0]
    if not fits or not _can_hold(spec.dtype, values):
        kind = "up to " if spec.ragged else ""
        msg = (
            f"{where} is {held.dtype} {held.shape}, announced is "
            f"{'complex, of ' * spec.complex}{spec.dtype} {kind}{spec.shape}"
        )
        raise DataError(msg)
    with np.errstate(over="ignore"):
        made = stored(values, spec.dtype)
    if not _same_range(values, made, spec.dtype):
        msg = f"{where} has values beyond what {spec.dtype} can hold; divide them"
        raise DataError(msg)
    return made


def _same_range(given: NDArray[Any], made: NDArray[Any], dtype: str) -> bool:
    """Return whether stored values are finite where the given ones are."""
    if not is_floating(dtype):
        return True
    return bool((np.isfinite(given) == np.isfinite(numbers(made, dtype))).all())


def _can_hold(dtype: str, values: NDArray[Any]) -> bool:
    """Return whether values can be stored: whole numbers exactly, others rounded."""
    if is_floating(dtype):
        return np.can_cast(values.dtype, np.float64, "same_kind")
    return values.dtype.kind in "biu" and bool((values.astype(dtype) == values).all())


def _padded(values: NDArray[Any], spec: InputSpec) -> NDArray[Any]:
    whole = np.zeros(spec.stored_shape, spec.stored_type)
    whole[: len(values)] = values
    return whole


def _column(file: Path, spec: InputSpec, lengths: Sequence[int] | None) -> Column:
    """Return the column of a spooled input, read by runs of rows."""
    size = spec.stored_bytes

    def take(rows: NDArray[np.int64]) -> NDArray[Any]:
        block = np.empty((len(rows), *spec.stored_shape), spec.stored_type)
        raw = block.reshape(len(rows), -1).view(np.uint8).reshape(len(rows), size)
        starts = np.flatnonzero(np.diff(rows, prepend=rows[:1] - 2) != 1)
        with file.open("rb") as spooled:
            for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
                spooled.seek(int(rows[start]) * size)
                raw[start:stop] = np.frombuffer(
                    spooled.read((stop - start) * size), np.uint8
                ).reshape(-1, size)
        return block

    return Column(spec, take, None if lengths is None else np.array(lengths, np.int64))


def _rows_by_split(
    owners: NDArray[np.int64], splits: NDArray[np.int8], m: int
) -> dict[str, list[NDArray[np.int64]]]:
    """Return the rows of each client in each split; without val where it is empty."""
    return {
        split: _by_client(owners, splits == code, m)
        for code, split in enumerate(SPLITS)
        if split != "val" or (splits == code).any()
    }


def _by_client(
    owners: NDArray[np.int64], chosen: NDArray[np.bool_], m: int
) -> list[NDArray[np.int64]]:
    """Return the chosen rows of each client, in order."""
    rows = np.flatnonzero(chosen)
    order = rows[np.argsort(owners[rows], kind="stable")]
    return np.split(order, np.cumsum(np.bincount(owners[rows], minlength=m))[:-1])
