"""The targets of a data set whose samples are not each of one class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.errors import DataError
from fedapm_mpi.utils import strict_json
from fedapm_mpi.utils.text import format_value

KINDS = {"real": ("float32", "float64"), "binary": ("uint8",)}
"""By kind of target: NumPy names of the types in which its values are stored.

``real`` values are numbers, ``binary`` ones are 1 where a label applies and else 0.
"""

MAX_TARGETS = 2**16
"""Maximum number of targets of a sample."""


@dataclass(frozen=True)
class TargetSpec:
    """What models are to give for a sample: k numbers, or which of k labels apply.

    Attributes
    ----------
    kind
        One of `KINDS`.
    names
        Names of the k targets, or labels.
    dtype
        NumPy name of the stored type.
    mean, std
        Of each target over all training samples, in the targets' own units; the
        standard deviation is the population's, 0 where all values are equal.
    """

    kind: str
    names: tuple[str, ...]
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class TargetValues:
    """The targets of all samples, before they are written.

    Attributes
    ----------
    kind, names
        See `TargetSpec`.
    values
        ``(N, k)``.
    """

    kind: str
    names: tuple[str, ...]
    values: NDArray[Any]

    def spec(self, training: NDArray[np.int64]) -> TargetSpec:
        """Return the description, with statistics of the given rows."""
        own = self.values[training].astype(np.float64)
        return TargetSpec(
            kind=self.kind,
            names=tuple(self.names),
            dtype=self.values.dtype.name,
            mean=tuple(own.mean(axis=0).tolist()),
            std=tuple(own.std(axis=0).tolist()),
        )


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
    elif not 1 <= len(names) <= MAX_TARGETS or values.shape != (number, len(names)):
        fault = (
            f"targets of shape {values.shape} do not fit {number} samples and "
            f"{len(names)} names"
        )
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
    if target.kind == "binary":
        bad, what = values > 1, "it must be 0 or 1"
    else:
        bad = ~np.isfinite(values)
        what = "leave out samples without a target"
    row, column = next(iter(np.argwhere(bad)), (-1, -1))
    if row < 0:
        return ""
    name = format_value(target.names[column])
    return f"target {name} of sample {row} is {values[row, column]}; {what}"


def parse_target(tree: Any) -> TargetSpec:
    """Return the targets that a manifest describes.

    Raises
    ------
    ValueError
        If they are not valid.
    """
    found = strict_json.mapping(tree, "target")
    known = {"kind", "names", "dtype", "mean", "std"}
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
    if len(sizes) > 1 or not 1 <= len(set(names)) == len(names) <= MAX_TARGETS:
        msg = "target does not have a name, mean and std for each"
        raise ValueError(msg)
    if min(std) < 0:
        msg = f"target has the standard deviation {min(std)}"
        raise ValueError(msg)
    return TargetSpec(kind, names, dtype, mean, std)


def _list(tree: dict[str, Any], key: str) -> list[Any]:
    return strict_json.list_of(tree[key], f"{key} of target")


def _numbers(tree: dict[str, Any], key: str) -> tuple[float, ...]:
    return tuple(
        strict_json.number(one, f"{key} of target") for one in _list(tree, key)
    )


def target_faults(values: NDArray[Any], kind: str, names: Sequence[str]) -> list[str]:
    """Return a sentence on the first stored target that cannot be, if there is one."""
    fault = _value_fault(TargetValues(kind, tuple(names), values))
    return [fault.partition(";")[0]] if fault else []
