"""Any data set as plain NumPy arrays: one ``.npz``, or a folder of ``.npy``.

Samples come first in every array:

- ``x_<input>``: an input. Truth values are stored as bytes. One of type uint8 with two
  or three axes and no length is an image, unless ``series`` names it: channels are
  moved to the front, (H, W) becomes (1, H, W), and a model sees -1 to 1 unless a scale
  is given. Any other of two or more axes has a time axis, the first. Complex numbers
  stay complex: a model sees a complex tensor.
- ``y``: labels 0, 1, ..., or any integers, truth values or texts, whose distinct values
  are then the classes; ``class_names``: their names. Numbers that are not all whole,
  and any with ``target=real``, are the targets of a regression, one or several for a
  sample; with ``target=binary`` entries say which of several labels apply;
  ``target_names``: names of targets and labels. With ``target=dense`` an entry has the
  class of each position of a sample, such as a pixel, and less than 0 for none.
- ``client``: numbers or texts; ``split``: 0 (train), 1 (test), 2 (val), or these names,
  which is kept unless ``split=random``; ``weight``: how much each sample counts in the
  loss, a positive number.
- ``<input>_scale`` and ``<input>_shift``: numbers.
- ``<input>_codes``: of an input of integers that models embed, such as the tokens of a
  text, the number of codes; see also ``codes``.
- ``length_<input>``: true lengths, or ``length`` for every input with a time axis.

Other arrays are reported and not read. A folder of .npy files is read memory-mapped.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_prep import sample_fields as checked
from data_prep.images import colours_first, move_colours
from data_prep.labelled import Labelled, labelled
from data_prep.labels import class_names
from data_prep.sources._numpy_files import Arrays, is_read, read_arrays, unread_arrays
from data_prep.sources._siblings import unread_siblings
from data_prep.sources.base import Source, sources, window_scores
from data_prep.targets import Kind as Target
from data_prep.targets import has_fractions
from data_prep.unused_inputs import hints
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.number_types import pairs
from fedapm_mpi.data.table import Column, Table
from fedapm_mpi.errors import DataError
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.text import format_some, format_value, truncate

Kind = Literal["image", "series", "plain"]


@sources.register("arrays")
def arrays(
    path: Path,
    *,
    normalise: Literal["none", "window"] = "none",
    inputs: tuple[str, ...] = (),
    series: tuple[str, ...] = (),
    codes: tuple[str, ...] = (),
    target: Target | None = None,
    incomplete: bool = False,
    group: str | None = None,
    name: str | None = None,
) -> Source:
    """Read ``x_<input>``, ``y`` and other arrays from an .npz, or .npy files.

    Split: that of the array ``split`` if there is one.

    Parameters
    ----------
    path
        The .npz file or the folder.
    normalise
        ``window`` standardises every input with a time axis over time, as float32;
        none may be complex.
    inputs
        Names of the inputs, in the order of a model; all, as in the file, by default.
    series
        Inputs of type uint8 that have a time axis, the first, and are no images.
    codes
        Inputs of integers from 0 that models embed, as many as ``<input>_codes`` says,
        or one more than the largest.
    target
        What ``y`` is: ``class``, one class for each sample; ``real``, one or several
        numbers; ``binary``, a column of zeros and ones for each label; ``dense``, the
        class of each position. By default classes, unless it has fractions.
    incomplete
        Whether samples may lack some of several ``real`` or ``binary`` targets: NaN.
        They count neither in the loss nor in metrics.
    group
        Key of an array of groups, whose samples stay together, such as the recording
        of each window; numbers count within a client.
    name
        Name of the data set; that of the file if None.

    Raises
    ------
    DataError
        If an array is missing, damaged, or does not fit the others.
    """
    saved = read_arrays(
        path, partial(is_read, inputs=inputs and inputs + series, group=group)
    )
    found = saved.arrays
    _check_keys(path, found, saved.others, group)
    labels = _labels(path, found, target, incomplete)
    _check_rows(path, found, group)
    kinds = _kinds(path, found, inputs, series)
    columns = _coded(
        path, found, _columns(path, found, kinds, normalise, series), codes
    )
    split, weight = found.get("split"), found.get("weight")
    source = Source(
        table=Table(
            name or path.stem,
            columns,
            labels.codes,
            labels.classes,
            target=labels.target,
            weights=None
            if weight is None
            else checked.sample_weights(weight, f"{path}: 'weight'"),
        ),
        files=saved.files,
        split=None if split is None else checked.split_codes(split, f"{path}: 'split'"),
        notes=(labels.note,) if labels.note else (),
        warnings=(
            *unread_arrays(path, found, saved.others),
            *_wide(path, found, kinds),
            *(() if "split" in found else _beside(path)),
        ),
        client_hint="an array 'client' names them",
    )
    return _with_clients(source, path, found, group)


def _labels(
    path: Path, found: Arrays, target: Target | None, incomplete: bool
) -> Labelled:
    """Return what ``y`` is."""
    where = f"{path}: 'y'"
    if target is None and "class_names" not in found and has_fractions(found["y"]):
        kind: Target = "real"
    else:
        kind = target or "class"
    by_class = kind in ("class", "dense")
    unused = "target_names" if by_class else "class_names"
    if unused in found:
        msg = (
            f"{path}: {unused!r}, but the target is {kind}; leave it out, or set "
            f"target={'real' if by_class else 'class'}"
        )
        raise DataError(msg)
    names = {
        key: class_names(found[key], f"{path}: {key!r}")
        for key in ("class_names", "target_names")
        if key in found
    }
    return labelled(
        found["y"],
        where,
        target,
        classes=names.get("class_names"),
        targets=names.get("target_names", ()),
        incomplete=incomplete,
    )


def _beside(path: Path) -> tuple[str, ...]:
    """Return a note if this is one part of a split, and others lie next to it."""
    return unread_siblings(
        path,
        "put all parts into one file with an array 'split' (0 train, 1 test, 2 val) to "
        "keep that split",
        lambda other: (
            (other.suffix == ".npz" and other.is_file()) or any(other.glob("*.npy"))
        ),
    )


def _wide(path: Path, found: Arrays, kinds: Mapping[str, Kind]) -> tuple[str, ...]:
    """Return a question on inputs that may be images of 16 bits."""
    return tuple(
        f"{path.name}: 'x_{name}' is uint16 and is taken for a series of numbers up to "
        f"65535: if these are images, save {name}_scale = 1/32767.5 and "
        f"{name}_shift = -1, so that a model sees -1 to 1"
        for name, kind in kinds.items()
        if kind == "series"
        and found[f"x_{name}"].dtype == np.uint16
        and f"{name}_scale" not in found
        and f"length_{name}" not in found
        and "length" not in found
    )


def _with_clients(made: Source, path: Path, found: Arrays, group: str | None) -> Source:
    """Return a source with its clients and groups, if it has any."""
    groups = None
    if group is not None:
        groups = checked.identifiers(found[group], f"{path}: {group!r}", group).codes
    if "client" not in found:
        return replace(made, groups=groups)
    named = checked.identifiers(found["client"], f"{path}: 'client'")
    if groups is not None:
        groups = groups + named.codes * (groups.max() + 1)
    return replace(
        made,
        ids=named.codes,
        id_names=named.names,
        groups=groups,
        notes=(*made.notes, *([named.note] if named.note else ())),
    )


def _check_keys(
    path: Path, found: Arrays, others: tuple[str, ...], group: str | None
) -> None:
    """Check that what is needed is there."""
    if "y" not in found or not any(key.startswith("x_") for key in found):
        every = sorted([*found, *others])
        hint = hints(every, ("y",)) if "y" not in found else ""
        near = [key for key in every if key.casefold() in ("x", "data", "features")]
        near += [key for key in every if key[:2] == "X_"]
        if "y" in found and near:
            name = truncate(near[0].removeprefix("X_"))
            hint = f"{format_value(near[0])}: name it 'x_{name}'"
        msg = (
            f"{path} must hold 'y' and at least one 'x_<input>'; "
            f"it holds {format_some(every) or 'nothing'}"
            + (f" ({hint})" if hint else "")
        )
        raise DataError(msg)
    if group is not None and group not in found:
        hint = did_you_mean(group, [*found, *others])
        msg = f"{path} has no array {group!r} (group){hint}"
        raise DataError(msg)


def _check_rows(path: Path, found: Arrays, group: str | None) -> None:
    """Check that arrays of samples have one entry for each of them."""
    number = len(found["y"])
    for key in found:
        inputs = key.startswith("x_")
        alone = ("client", "split", "weight", group)
        each = inputs or key.startswith("length") or key in alone
        shape = found[key].shape
        one = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
        if each and (shape[:1] != (number,) or not (inputs or one)):
            msg = (
                f"{path}: {key!r} has shape {shape}, but there are {number} labels "
                "in 'y'; give one entry for each sample"
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
            images = [name for name, kind in kinds.items() if kind == "image"]
            hint = "leave it out"
            if images:
                hint += (
                    f", or set series=[{images[0]}] if the first axis of "
                    f"'x_{images[0]}' is time and it is no image"
                )
            msg = f"{path}: {what}, but no input has a time axis; {hint}"
            raise DataError(msg)


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
        return "image"
    return "series" if axes >= 2 else "plain"


def _columns(
    path: Path,
    found: Arrays,
    kinds: Mapping[str, Kind],
    normalise: str,
    series: tuple[str, ...],
) -> list[Column]:
    columns = [
        _column(
            path, found, key, kind, normalise, kind == "series" and key not in series
        )
        for key, kind in kinds.items()
    ]
    _check_time(path, found, kinds, normalise)
    return columns


def _column(
    path: Path, found: Arrays, name: str, kind: Kind, normalise: str, common: bool
) -> Column:
    """Return an input as it will be stored; rows are converted when they are read.

    `common` states whether the array ``length`` holds its lengths.
    """
    values = found[f"x_{name}"]
    _check_input(path, name, values)
    shape = values.shape[1:]
    scale, shift = (1 / 127.5, -1.0) if kind == "image" else (1.0, 0.0)
    if f"{name}_scale" in found:
        scale, shift = _number(path, found, f"{name}_scale"), 0.0
    if f"{name}_shift" in found:
        shift = _number(path, found, f"{name}_shift")
    lengths = found.get(f"length_{name}", found.get("length") if common else None)
    if lengths is not None:
        key = f"length_{name}" if f"length_{name}" in found else "length"
        advice = (
            f"the time axis of 'x_{name}'; correct it, or give 'length_{name}' if "
            "'length' belongs to another input"
        )
        if not shape:
            msg = f"{path}: {key!r}, but 'x_{name}' has no time axis; leave it out"
            raise DataError(msg)
        lengths = checked.lengths(lengths, f"{path}: {key!r}", 1, shape[0], advice)
    take = partial(_rows, values)
    dtype = "uint8" if values.dtype == bool else values.dtype.newbyteorder("=").name
    is_complex = values.dtype.kind == "c"
    if is_complex:
        take, dtype = partial(_pairs, values), values.real.dtype.newbyteorder("=").name
        _check_complex(path, found, name, normalise, kind)
    if kind == "image":
        shape, axis = colours_first(shape)
        take = partial(_images, values, axis)
    elif kind == "series" and normalise == "window":
        take = partial(_scored, values, lengths)
        dtype, scale, shift = "float32", 1.0, 0.0
    spec = InputSpec(
        name, shape, dtype, lengths is not None, scale, shift, complex=is_complex
    )
    return Column(spec, take, lengths)


def _check_complex(
    path: Path, found: Arrays, name: str, normalise: str, kind: Kind
) -> None:
    """Refuse what is not done with complex inputs."""
    if f"{name}_shift" in found:
        msg = f"{path}: '{name}_shift', but 'x_{name}' is complex; subtract it there"
        raise DataError(msg)
    if kind == "series" and normalise == "window":
        msg = (
            f"{path}: normalise=window does not take complex numbers, as those of "
            f"'x_{name}'; leave it out, or that input by inputs"
        )
        raise DataError(msg)


def _coded(
    path: Path, found: Arrays, columns: list[Column], codes: tuple[str, ...]
) -> list[Column]:
    """Return the columns, where those that hold codes say so."""
    names = [c.spec.name for c in columns]
    for name in codes:
        if name not in names:
            hint = did_you_mean(name, names)
            msg = f"{path}: codes names {name!r}, which is no input{hint}"
            raise DataError(msg)
    made = []
    for c in columns:
        name, key = c.spec.name, f"{c.spec.name}_codes"
        if name in codes or key in found:
            number = _number_of_codes(path, found, name)
            spec = replace(c.spec, codes=number, scale=1.0, shift=0.0)
            c = replace(c, spec=spec)
        made.append(c)
    return made


def _number_of_codes(path: Path, found: Arrays, name: str) -> int:
    """Return how many codes an input has."""
    key, values = f"{name}_codes", found[f"x_{name}"]
    for other in (f"{name}_scale", f"{name}_shift"):
        if other in found:
            msg = f"{path}: {other!r}, but {name!r} holds codes; leave it out"
            raise DataError(msg)
    if values.dtype.kind not in "iu":
        msg = f"{path}: 'x_{name}' must hold integers, as codes, not {values.dtype}"
        raise DataError(msg)
    if key not in found:
        return int(values.max(initial=0)) + 1
    number = _number(path, found, key)
    if number < 1 or number % 1:
        msg = f"{path}: {key!r} is {number:g}, but codes are counted from 1"
        raise DataError(msg)
    return int(number)


def _check_input(path: Path, name: str, values: NDArray[Any]) -> None:
    """Refuse inputs that are no plain numbers, and empty ones."""
    advice = {
        "O": "save np.asarray(x, dtype=np.float32)",
        "M": "give dates as numbers, such as days since the first",
        "m": "give times as numbers, such as seconds",
    }.get(values.dtype.kind, "give texts as codes or features")
    if values.dtype.kind not in "biufc":
        msg = f"{path}: 'x_{name}' must hold numbers, not {values.dtype}; {advice}"
        raise DataError(msg)
    if values.dtype.kind in "fc" and values.real.dtype.itemsize > 8:
        kinds = "complex128 or complex64"
        if values.dtype.kind == "f":
            kinds = "float64 or float32"
        msg = f"{path}: 'x_{name}' is {values.dtype}; save it as {kinds}"
        raise DataError(msg)
    if 0 in values.shape[1:]:
        msg = f"{path}: 'x_{name}' has shape {values.shape}, so there are no numbers"
        raise DataError(msg)


def _number(path: Path, found: Arrays, key: str) -> float:
    value = found[key]
    usable = value.size == 1 and value.dtype.kind in "iuf"
    if not usable or not np.isfinite(float(value.reshape(()))):
        msg = f"{path}: {key!r} must be one finite number"
        raise DataError(msg)
    number = float(value.reshape(()))
    if number == 0 and key.endswith("_scale"):
        msg = f"{path}: {key!r} must not be 0, which makes every value the same"
        raise DataError(msg)
    return number


def _rows(values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    block: NDArray[Any] = values[rows]
    if block.dtype == bool:
        return block.view(np.uint8)
    return block.astype(values.dtype.newbyteorder("="), copy=False)


def _pairs(values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    return pairs(values[rows])


def _images(values: NDArray[Any], axis: int, rows: NDArray[np.int64]) -> NDArray[Any]:
    return move_colours(values[rows], axis)


def _scored(
    values: NDArray[Any], lengths: NDArray[Any] | None, rows: NDArray[np.int64]
) -> NDArray[Any]:
    return window_scores(values[rows], None if lengths is None else lengths[rows])
