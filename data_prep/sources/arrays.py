"""Any data set as plain NumPy arrays: one ``.npz``, or a folder of ``.npy``."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.errors import DataError
from fedapm_mpi.manifest import InputSpec
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.shards import Column, Table

from ._siblings import unread_siblings
from .base import Source, sources, window_scores

Arrays = dict[str, NDArray[Any]]
Kind = Literal["picture", "series", "plain"]


@sources.register("arrays")
def arrays(
    path: Path,
    *,
    normalise: Literal["none", "window"] = "none",
    inputs: tuple[str, ...] = (),
    series: tuple[str, ...] = (),
    group: str | None = None,
    name: str | None = None,
) -> Source:
    """Read ``x_<input>``, ``y`` and what else there is from an .npz, or .npy files.

    Samples come first in every array. Beside the inputs and the labels 0, 1, … there
    may be ``client`` (any values), ``split`` (0 train, 1 test, 2 val), which is kept
    unless ``split=random``, ``class_names``, ``<input>_scale`` and ``<input>_shift``
    (numbers), and true lengths: ``length_<input>``, or ``length`` for every input with
    a time axis, which is every one of two or more axes that is not a picture.

    An input of type uint8 with two or three axes and no length of its own is a
    picture, unless `series` names it: colours are moved to the front, (H, W) becomes
    (1, H, W), and a model sees -1 to 1 unless a scale is given. A folder of .npy files
    is read memory-mapped.

    Split: that of the array ``split`` if there is one.

    Parameters
    ----------
    path
        The .npz file or the folder.
    normalise
        ``window`` stores every input with a time axis as float32, standardised for
        each window and axis over time.
    inputs
        Which inputs there are, in the order in which a model gets them; all, in the
        order of the file, if none is named.
    series
        Inputs of type uint8 that are no pictures but have a time axis, the first; all
        their steps count unless there is ``length_<input>``.
    group
        Key of an array that says which samples belong together, such as windows cut
        from one recording; numbers count within a client.
    name
        Name of the data set; that of the file if None.
    """
    found, files = _open(path)
    _check_keys(path, found, group)
    labels = found["y"]
    classes = _classes(path, found)
    kinds = _kinds(path, found, inputs, series)
    columns = []
    for key, kind in kinds.items():
        common = kind == "series" and key not in series
        columns.append(_column(path, found, key, kind, normalise, common=common))
    _check_time(path, found, kinds, normalise)
    ids: NDArray[np.int64] | None = None
    id_names: tuple[str, ...] = ()
    if "client" in found:
        values, ids = np.unique(found["client"], return_inverse=True)
        id_names = tuple(str(value) for value in values)
    groups = None
    if group is not None:
        groups = np.unique(found[group], return_inverse=True)[1]
        if ids is not None:
            groups = groups + ids * (groups.max() + 1)
    return Source(
        table=Table(name or path.stem, columns, labels, classes),
        files=files,
        ids=ids,
        id_names=id_names,
        groups=groups,
        split=found["split"].astype(np.int8) if "split" in found else None,
        warnings=() if "split" in found else _beside(path),
        client_hint="an array 'client' names them",
    )


def _beside(path: Path) -> tuple[str, ...]:
    """Return a note if this is one part of a split, and others lie beside it."""
    return unread_siblings(
        path,
        "put all parts into one file with an array 'split' (0 train, 1 test, 2 val) to "
        "keep that split",
        lambda other: (
            (other.suffix == ".npz" and other.is_file()) or any(other.glob("*.npy"))
        ),
    )


def _open(path: Path) -> tuple[Arrays, tuple[Path, ...]]:
    try:
        if path.is_dir():
            files = tuple(sorted(path.glob("*.npy")))
            if not files:
                msg = f"{path} holds no .npy files; give an .npz file or such a folder"
                raise DataError(msg)
            return {f.stem: np.load(f, mmap_mode="r") for f in files}, files
        with path.open("rb") as file:
            archive = np.load(file)
            if isinstance(archive, np.ndarray):
                msg = f"{path} is a single array; give an .npz file or a folder of .npy"
                raise DataError(msg)
            return dict(archive), (path,)
    except DataError:
        raise
    except FileNotFoundError:
        msg = f"{path} does not exist; give the .npz file with --from"
        raise DataError(msg) from None
    except Exception as error:  # NumPy and zipfile raise many kinds for damage.
        msg = (
            f"cannot read {path} ({error}); it must be an .npz file, or a folder of "
            ".npy files, without pickled objects"
        )
        raise DataError(msg) from error


def _check_keys(path: Path, found: Arrays, group: str | None) -> None:
    """Check that what is needed is there, with one entry for each sample."""
    if "y" not in found or not any(key.startswith("x_") for key in found):
        msg = (
            f"{path} must hold 'y' and at least one 'x_<input>'; "
            f"it holds {', '.join(sorted(found)) or 'nothing'}"
        )
        raise DataError(msg)
    if group is not None and group not in found:
        msg = f"{path} has no array {group!r} (group){did_you_mean(group, list(found))}"
        raise DataError(msg)
    labels = found["y"]
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        msg = (
            f"{path}: 'y' must be one integer label for each sample, "
            f"not {labels.dtype} of shape {labels.shape}"
        )
        raise DataError(msg)
    number = len(labels)
    for key in found:
        each = key.startswith(("x_", "length")) or key in ("client", "split", group)
        inputs = key.startswith("x_")
        shape = found[key].shape
        if each and (shape[:1] != (number,) or (not inputs and len(shape) != 1)):
            msg = (
                f"{path}: {key!r} has shape {shape}, but there are {number} labels "
                "in 'y'; give one entry for each sample"
            )
            raise DataError(msg)
    bad = np.flatnonzero(~np.isin(found.get("split", labels[:0]), (0, 1, 2)))
    if bad.size:
        msg = (
            f"{path}: 'split' of sample {bad[0]} is {found['split'][bad[0]]}; "
            "it must be 0 (train), 1 (test) or 2 (val)"
        )
        raise DataError(msg)


def _check_time(
    path: Path, found: Arrays, kinds: Mapping[str, Kind], normalise: str
) -> None:
    if "series" in kinds.values():
        return
    for given, what in (
        ("length" in found, "a 'length'"),
        (normalise == "window", "normalise=window"),
    ):
        if given:
            msg = f"{path}: {what}, but no input has a time axis; leave it out"
            raise DataError(msg)


def _classes(path: Path, found: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    labels = found["y"]
    names = found.get("class_names", np.arange(int(labels.max()) + 1))
    bad = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if bad.size:
        msg = (
            f"{path}: label {labels[bad[0]]} of sample {bad[0]} is not in 0 to "
            f"{len(names) - 1}; correct 'y' or 'class_names'"
        )
        raise DataError(msg)
    return tuple(str(name) for name in names)


def _kinds(
    path: Path, found: Arrays, inputs: tuple[str, ...], series: tuple[str, ...]
) -> dict[str, Kind]:
    """Return the inputs in order, and what each is taken for."""
    names = [key.removeprefix("x_") for key in found if key.startswith("x_")]
    for option, given in (("inputs", inputs), ("series", series)):
        for name in given:
            if name not in names:
                hint = did_you_mean(name, names)
                msg = f"{path} has no array 'x_{name}' ({option}){hint}"
                raise DataError(msg)
        if len(set(given)) < len(given):
            msg = f"{path}: {option} names one twice ({', '.join(given)}); name it once"
            raise DataError(msg)
    kinds = {name: _kind(found, name, name in series) for name in inputs or names}
    for name in series:
        if kinds.get(name) != "series":
            axes = found[f"x_{name}"].ndim - 1
            why = "has no time axis" if axes < 2 else "is not among the inputs"
            msg = f"{path}: series names {name!r}, which {why}; leave it out"
            raise DataError(msg)
    return kinds


def _kind(found: Arrays, name: str, is_series: bool) -> Kind:
    """Return what an input is taken for; a series has a time axis, the first."""
    values = found[f"x_{name}"]
    axes = values.ndim - 1
    known = is_series or f"length_{name}" in found
    if values.dtype == np.uint8 and axes in (2, 3) and not known:
        return "picture"
    return "series" if axes >= 2 else "plain"


def _column(
    path: Path, found: Arrays, name: str, kind: Kind, normalise: str, *, common: bool
) -> Column:
    """Return an input as it will be stored; rows are converted when they are read.

    `common` says whether the array ``length`` is its.
    """
    values = found[f"x_{name}"]
    if values.dtype.kind not in "iuf":
        msg = f"{path}: 'x_{name}' must hold numbers, not {values.dtype}"
        raise DataError(msg)
    shape = values.shape[1:]
    scale, shift = (1 / 127.5, -1.0) if kind == "picture" else (1.0, 0.0)
    if f"{name}_scale" in found:
        scale, shift = _number(path, found, f"{name}_scale"), 0.0
    if f"{name}_shift" in found:
        shift = _number(path, found, f"{name}_shift")
    lengths = found.get(f"length_{name}", found.get("length") if common else None)
    if lengths is not None:
        longest = shape[0] if shape else 0
        bad = np.flatnonzero((lengths < 1) | (lengths > longest))
        if bad.size:
            msg = (
                f"{path}: the length {lengths[bad[0]]} of sample {bad[0]} is not in "
                f"1 to {longest}, the time axis of 'x_{name}'; correct it, or give "
                f"'length_{name}' if 'length' belongs to another input"
            )
            raise DataError(msg)
    take = partial(_rows, values)
    dtype = values.dtype.newbyteorder("=").name
    if kind == "picture":
        shape, axis = _colours_first(shape)
        take = partial(_pictures, values, axis)
    elif kind == "series" and normalise == "window":
        take = partial(_scored, values, lengths)
        dtype, scale, shift = "float32", 1.0, 0.0
    spec = InputSpec(name, shape, dtype, lengths is not None, scale, shift)
    return Column(spec, take, lengths)


def _number(path: Path, found: Arrays, key: str) -> float:
    value = found[key]
    if value.size != 1 or value.dtype.kind not in "iuf" or not np.isfinite(value).all():
        msg = f"{path}: {key!r} must be one finite number"
        raise DataError(msg)
    return float(value.reshape(()))


def _colours_first(shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """Return a picture's shape with colours first, and the axis where they are."""
    if len(shape) == 2:
        return (1, *shape), 0
    if shape[2] in (1, 3, 4) and shape[0] not in (1, 3, 4):
        return (shape[2], *shape[:2]), 3
    return shape, 1


def _rows(values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    block: NDArray[Any] = values[rows]
    return block.astype(values.dtype.newbyteorder("="), copy=False)


def _pictures(values: NDArray[Any], axis: int, rows: NDArray[np.int64]) -> NDArray[Any]:
    block = values[rows]
    return block[:, None] if axis == 0 else np.moveaxis(block, axis, 1)


def _scored(
    values: NDArray[Any], lengths: NDArray[Any] | None, rows: NDArray[np.int64]
) -> NDArray[Any]:
    return window_scores(values[rows], None if lengths is None else lengths[rows])
