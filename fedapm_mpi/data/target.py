"""The targets of a data set whose samples are not each of one class."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.errors import DataError
from fedapm_mpi.utils import strict_json
from fedapm_mpi.utils.text import format_value

KINDS = {
    "real": ("float32", "float64"),
    "binary": ("uint8",),
    "dense": ("int8", "int16", "int32"),
}
"""By kind of target: NumPy names of the types in which its values are stored.

``real`` values are numbers, ``binary`` ones are 1 where a label applies and else 0.
``dense`` values are one class for each position of a sample, such as a pixel or a token
of a text; `IGNORED` where a position has none.
"""

IGNORED = -1
"""Dense target of a position that counts neither in the loss nor in metrics."""

ABSENT = 255
"""Stored in place of a binary target that a sample lacks; of a real one, NaN is."""

MAX_TARGETS = 2**16
"""Maximum number of targets of a sample."""

MAX_CLASSES = 2**20
"""Maximum number of classes of dense targets, such as the tokens of a vocabulary."""

MAX_POSITIONS = 2**32
"""Maximum number of positions of a sample."""

BLOCK_BYTES = 8 * 2**20
"""Bytes of targets that are looked at at a time."""


@dataclass(frozen=True)
class TargetSpec:
    """What models are to give for a sample.

    k numbers, which of k labels apply, or one of k classes at each position.

    Attributes
    ----------
    kind
        One of `KINDS`.
    names
        Names of the k targets, labels or classes.
    dtype
        NumPy name of the stored type.
    mean, std
        Of each target over all training samples, in the targets' own units; the
        standard deviation is the population's, 0 where all values are equal. Of dense
        targets, the share of each class among the positions that have one, and the
        deviation that follows from it.
    shape
        Of the positions of a sample, where targets are dense.
    incomplete
        Whether samples may lack some of their targets, but not all. Mean and standard
        deviation are of those that are there.
    """

    kind: str
    names: tuple[str, ...]
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shape: tuple[int, ...] = ()
    incomplete: bool = False

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape of a sample's values."""
        return self.shape if self.kind == "dense" else (len(self.names),)

    def plain(self) -> dict[str, Any]:
        """Return what a manifest says of the targets."""
        found = asdict(self)
        if self.kind != "dense":
            del found["shape"]
        if not self.incomplete:
            del found["incomplete"]
        return found


@dataclass(frozen=True)
class TargetValues:
    """The targets of all samples, before they are written.

    Attributes
    ----------
    kind, names
        See `TargetSpec`.
    values
        ``(N, k)``; of dense targets ``(N, *shape)``.
    incomplete
        Whether samples may lack some: see `TargetSpec`.
    """

    kind: str
    names: tuple[str, ...]
    values: NDArray[Any]
    incomplete: bool = False

    def first(self) -> NDArray[Any] | None:
        """Return the first target of each sample, (N,); `None` if they are dense.

        NaN where a sample lacks it.
        """
        if self.kind == "dense":
            return None
        found: NDArray[Any] = self.values[:, 0]
        if self.incomplete:
            return np.where(are_known(found), found, np.nan)
        return found

    def spec(self, training: NDArray[np.int64]) -> TargetSpec:
        """Return the description, with statistics of the given rows.

        Raises
        ------
        DataError
            If none of these rows has a certain target.
        """
        if self.kind == "dense":
            counts = sum(
                (
                    class_counts(self.values[rows], len(self.names))
                    for rows in _blocks(self.values, training)
                ),
                np.zeros(len(self.names), np.int64),
            )
            mean = counts / max(1, counts.sum())
            std = np.sqrt(mean * (1 - mean))
        elif self.incomplete:
            mean, std = self._moments(training)
        else:
            own = self.values[training].astype(np.float64, copy=False)
            mean, std = own.mean(axis=0), own.std(axis=0)
        return TargetSpec(
            kind=self.kind,
            names=tuple(self.names),
            dtype=self.values.dtype.name,
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
            shape=self.values.shape[1:] if self.kind == "dense" else (),
            incomplete=self.incomplete,
        )

    def _moments(self, training: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return mean and deviation of the targets that are there, (2, k)."""
        found = np.empty((2, len(self.names)))
        for k, name in enumerate(self.names):
            column = self.values[training, k]
            own = column[are_known(column)].astype(np.float64)
            if not len(own):
                msg = (
                    f"no training sample has the target {format_value(name)}; leave "
                    "the target out"
                )
                raise DataError(msg)
            found[:, k] = own.mean(), own.std()
        return found


def are_known(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which targets are there, of real or binary ones as they are stored."""
    absent = np.isnan(values) if values.dtype.kind == "f" else values == ABSENT
    return ~np.asarray(absent)


def class_counts(values: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Return the positions of each class among dense targets, (classes,)."""
    there = values[values != IGNORED].astype(np.int64)
    return np.bincount(there, minlength=classes).astype(np.int64, copy=False)


def _blocks(
    values: NDArray[Any], rows: NDArray[np.int64]
) -> Iterator[NDArray[np.int64]]:
    """Yield rows in runs whose values take some MiB."""
    size = math.prod(values.shape[1:]) * values.dtype.itemsize
    step = max(1, BLOCK_BYTES // max(1, size))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def check_target(target: TargetValues, number: int, dataset: str) -> None:
    """Check targets before they are written.

    Raises
    ------
    DataError
        If they cannot be stored, or a value is missing or out of range.
    """
    kind, values, names = target.kind, target.values, tuple(target.names)
    fault = ""
    if kind not in KINDS:
        known = ", ".join(KINDS)
        fault = f"the targets' kind is {format_value(kind)} (known: {known})"
    elif values.dtype.name not in KINDS[kind]:
        fault = f"{kind} targets are {values.dtype}, not {' or '.join(KINDS[kind])}"
    elif kind == "dense" and (values.ndim < 2 or len(values) != number):
        fault = (
            f"dense targets of shape {values.shape} do not fit {number} samples; "
            "needed is (samples, positions, ...)"
        )
    elif kind != "dense" and values.shape != (number, len(names)):
        fault = (
            f"targets of shape {values.shape} do not fit {number} samples and "
            f"{len(names)} names"
        )
    elif kind == "dense" and target.incomplete:
        fault = f"a dense target that is not there is {IGNORED}; leave incomplete out"
    elif not 1 <= len(names) <= _most_names(kind):
        fault = f"{len(names)} names are given; there may be 1 to {_most_names(kind)}"
    elif len(set(names)) < len(names) or not all(
        isinstance(name, str) and name.strip() for name in names
    ):
        fault = "every target needs a name of its own"
    else:
        fault = _value_fault(target)
    if fault:
        msg = f"{dataset}: {fault}"
        raise DataError(msg)


def _value_fault(target: TargetValues) -> str:
    """Return where the first value that cannot be is; empty if there is none."""
    values = target.values
    if target.kind == "dense":
        return _class_fault(values, len(target.names))
    if target.kind == "binary":
        bad, what = values > 1, "it must be 0 or 1"
    else:
        bad = ~np.isfinite(values)
        what = "leave out samples without a target"
    if target.incomplete:
        known = are_known(values)
        bad = bad & known
        empty = np.flatnonzero(~known.any(axis=1))
        if empty.size:
            return f"sample {empty[0]} has no target; leave out samples without any"
    row, column = next(iter(np.argwhere(bad)), (-1, -1))
    if row < 0:
        return ""
    name = format_value(target.names[column])
    return f"target {name} of sample {row} is {values[row, column]}; {what}"


def _class_fault(values: NDArray[Any], classes: int) -> str:
    for rows in _blocks(values, np.arange(len(values))):
        block = values[rows]
        if not block.size or (block.min() >= IGNORED and block.max() < classes):
            continue
        row, *place = np.argwhere((block < IGNORED) | (block >= classes))[0].tolist()
        return (
            f"the target of sample {rows[row]} at {place} is "
            f"{block[(row, *place)]}; it must be a class from 0 to {classes - 1}, or "
            f"{IGNORED} for none"
        )
    return ""


def _most_names(kind: str) -> int:
    return MAX_CLASSES if kind == "dense" else MAX_TARGETS


def parse_target(tree: Any) -> TargetSpec:
    """Return the targets that a manifest describes.

    Raises
    ------
    ValueError
        If they are not valid.
    """
    found = strict_json.mapping(tree, "target")
    known = {"kind", "names", "dtype", "mean", "std"}
    if found.get("kind") == "dense":
        known.add("shape")
    elif found.get("incomplete") is True:
        known.add("incomplete")
    if found.keys() != known:
        odd = sorted(found.keys() ^ known)[0]
        msg = f"target has or lacks the key {format_value(odd)}"
        raise ValueError(msg)
    kind = strict_json.text(found["kind"], "the target's kind")
    dtype = strict_json.text(found["dtype"], "the target's type")
    if dtype not in KINDS.get(kind, ()):
        msg = f"the target is {format_value(kind)} of type {format_value(dtype)}"
        raise ValueError(msg)
    names = tuple(strict_json.text(one, "a target") for one in _list(found, "names"))
    mean, std = (_numbers(found, key) for key in ("mean", "std"))
    sizes = {len(names), len(mean), len(std)}
    if len(sizes) > 1 or not 1 <= len(set(names)) == len(names) <= _most_names(kind):
        msg = "target does not have a name, mean and std for each"
        raise ValueError(msg)
    if min(std) < 0:
        msg = f"target has the standard deviation {min(std)}"
        raise ValueError(msg)
    shape: tuple[int, ...] = ()
    if kind == "dense":
        given = strict_json.integers(found["shape"], "shape of target")
        shape = tuple(given.tolist())
        if not shape or min(shape) < 1 or math.prod(shape) > MAX_POSITIONS:
            msg = f"target has the shape {format_value(shape)}"
            raise ValueError(msg)
    return TargetSpec(kind, names, dtype, mean, std, shape, "incomplete" in known)


def _list(tree: dict[str, Any], key: str) -> list[Any]:
    return strict_json.list_of(tree[key], f"{key} of target")


def _numbers(tree: dict[str, Any], key: str) -> tuple[float, ...]:
    return tuple(
        strict_json.number(one, f"{key} of target") for one in _list(tree, key)
    )


def target_faults(values: NDArray[Any], spec: TargetSpec) -> list[str]:
    """Return a sentence on the first stored target that cannot be, if there is one."""
    given = TargetValues(spec.kind, spec.names, values, spec.incomplete)
    fault = _value_fault(given)
    return [fault.partition(";")[0]] if fault else []
