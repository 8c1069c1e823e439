"""What in a manifest contradicts itself, or cannot be used as it is."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .strictjson import shown

if TYPE_CHECKING:
    from .manifest import InputSpec, Manifest

SPLITS = ("train", "test", "val")

DTYPES = frozenset(
    f"{kind}{bits}"
    for kind, sizes in (
        ("int", (8, 16, 32, 64)), ("uint", (8, 16, 32, 64)), ("float", (16, 32, 64)),
    )
    for bits in sizes
)  # fmt: skip
"""NumPy names of the types in which inputs are stored."""

MOST_SAMPLES = 2**52
"""In a data set: sums of numbers of samples are then exact, whatever their type."""

MOST_NUMBERS = 2**40
"""In a sample, of one input."""

_PLAIN = re.compile(r"[^/\x00-\x1f\x7f]+")


def faults(manifest: "Manifest", sealed: bool) -> list[str]:
    """Return what is wrong, in words.

    Parameters
    ----------
    manifest
        What was read.
    sealed
        Whether it had a checksum of itself.
    """
    m = manifest.num_clients
    if m < 1 or not manifest.classes or not manifest.inputs:
        return ["it needs at least one client, one class and one input"]
    if len(manifest.client_names) != m:
        return [f"{len(manifest.client_names)} client names for {m} clients"]
    return [*_inputs(manifest), *_counts(manifest), *_files(manifest, sealed)]


def input_fault(spec: "InputSpec") -> str | None:
    """Return what is wrong with an input's name, shape or type; `None` if nothing."""
    name, given = shown(spec.name), cast("Any", spec)  # of a user's own source
    if not isinstance(given.name, str):
        return f"the name of an input is {name}, not a text"
    if spec.name in (".", "..") or not _PLAIN.fullmatch(spec.name):
        return f"input {name} must have a name without '/' and control characters"
    if not _is_usable(spec):
        return f"input {name} has no usable shape or type"
    for value in (spec.scale, spec.shift):
        if not isinstance(value, int | float) or not math.isfinite(value):
            return f"scale and shift of input {name} must be finite numbers"
    if spec.ragged and not spec.shape:
        return f"input {name} is ragged but has no axis"
    return None


def _is_usable(spec: "InputSpec") -> bool:
    if not isinstance(spec.dtype, str) or spec.dtype not in DTYPES:
        return False
    shape: Any = spec.shape
    if not isinstance(shape, tuple):
        return False
    whole = all(isinstance(n, int) and n > 0 for n in shape)
    return whole and math.prod(shape) <= MOST_NUMBERS


def _inputs(manifest: "Manifest") -> list[str]:
    found = []
    names = [spec.name for spec in manifest.inputs]
    if len(set(names)) < len(names):
        found.append(f"input names repeat ({', '.join(names)})")
    found += [fault for spec in manifest.inputs if (fault := input_fault(spec))]
    for name, clients in manifest.lacking.items():
        ordered = list(clients) == sorted(set(clients))
        if (
            name not in names
            or not ordered
            or (clients and not 0 <= clients[0] <= clients[-1] < manifest.num_clients)
        ):
            found.append(f"it is not clear who lacks the input {shown(name)}")
    return found


def _counts(manifest: "Manifest") -> list[str]:
    m, classes = manifest.num_clients, len(manifest.classes)
    found = [
        f"there is no split {split!r}"
        for split in ("train", "test")
        if split not in manifest.counts
    ]
    for split, counts in manifest.counts.items():
        labels = manifest.label_counts[split]
        if split not in SPLITS:
            found.append(f"unknown split {shown(split)}")
        if counts.shape != (m,) or (counts < 0).any():
            found.append(f"counts of {split} are not {m} numbers of samples")
        elif labels.shape != (m, classes) or (labels < 0).any():
            found.append(f"label counts of {split} are not {m} x {classes} numbers")
        elif max(counts.sum(dtype=float), labels.sum(dtype=float)) > MOST_SAMPLES:
            found.append(f"counts of {split} are beyond any number of samples")
        elif (labels.sum(axis=1) != counts).any():
            found.append(f"label counts of {split} do not add up to its counts")
    return found


def _files(manifest: "Manifest", sealed: bool) -> list[str]:
    found = []
    stop = 0
    for file in manifest.files:
        if (
            Path(file.name).name != file.name
            or file.name in (".", "..")
            or not _PLAIN.fullmatch(file.name)
        ):
            found.append(f"{shown(file.name)} is not a file name")
        if file.clients[0] != stop or file.clients[1] <= stop:
            found.append(f"{shown(file.name)} should begin with client {stop}")
        stop = file.clients[1]
    if stop != manifest.num_clients:
        found.append(f"the shards hold {stop} clients, not {manifest.num_clients}")
    if len({file.name for file in manifest.files}) < len(manifest.files):
        found.append("names of shards repeat")
    if not sealed and any(file.block_bytes for file in manifest.files):
        found.append("it has lost the checksum with which it was written")
    return found
