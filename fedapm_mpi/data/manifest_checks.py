"""What in a manifest contradicts itself, or cannot be used as it is."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedapm_mpi.data.held_columns import manifest_faults
from fedapm_mpi.data.number_types import BFLOAT16
from fedapm_mpi.utils.strict_json import MAX_NUMBER
from fedapm_mpi.utils.text import format_value

if TYPE_CHECKING:
    from fedapm_mpi.data.manifest import InputSpec, Manifest

SPLITS = ("train", "test", "val")

DTYPES = (
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
    "float16", "float32", "float64", BFLOAT16,
)  # fmt: skip
"""NumPy's, or our own, names of the types in which inputs are stored."""

MAX_SAMPLES = 2**52
"""In a data set: sums of numbers of samples are then exact, whatever their type."""

MAX_NUMBERS = 2**40
"""In a sample, of one input."""

MAX_CODES = 2**31
"""Of an input that holds codes."""

_PLAIN = re.compile(r"[^/\x00-\x1f\x7f]+")


def manifest_errors(manifest: "Manifest", sealed: bool) -> list[str]:
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
    if manifest.new_clients >= m:
        return [f"{manifest.new_clients} of {m} clients are new, and none is left"]
    if len(manifest.client_names) != m:
        return [f"{len(manifest.client_names)} client names for {m} clients"]
    return [*_inputs(manifest), *_counts(manifest), *_files(manifest, sealed)]


def input_error(spec: "InputSpec") -> str | None:
    """Return what is wrong with an input's name, shape or type; `None` if nothing."""
    given: Any = spec  # of a user's own source, which may hold anything
    name, shape = format_value(given.name), given.shape
    if not isinstance(given.name, str):
        return f"the name of an input is {name}, not a text"
    plain = given.name.strip() and _PLAIN.fullmatch(given.name)
    if not plain or given.name in (".", ".."):
        return f"input {name} must have a name without '/' and control characters"
    if not isinstance(given.dtype, str) or given.dtype not in DTYPES:
        known = ", ".join(DTYPES)
        hint = ""
        if str(given.dtype).startswith("complex"):
            hint = "; of a complex input give the type of its parts, and complex=True"
        said = format_value(given.dtype)
        return f"input {name} has the type {said} (known: {known}){hint}"
    sizes = isinstance(shape, tuple) and all(_is_number(n, int) for n in shape)
    if not sizes or min(shape, default=1) < 1 or math.prod(shape) > MAX_NUMBERS:
        return (
            f"input {name} has the shape {format_value(shape)}, not a tuple of "
            f"positive integers with a product of at most {MAX_NUMBERS}"
        )
    for key, value in (("scale", given.scale), ("shift", given.shift)):
        if not _is_number(value, int | float) or not abs(value) <= MAX_NUMBER:
            return (
                f"{key} of input {name} is {format_value(value)}, not a finite number"
            )
    if given.ragged and not shape:
        return f"input {name} is ragged but has no axis"
    return _complex_error(given, name) or _code_error(given, name)


def _complex_error(given: Any, name: str) -> str | None:
    if type(given.complex) is not bool:
        return f"complex of input {name} is {format_value(given.complex)}, not a bool"
    if given.complex and (given.shift != 0 or given.codes):
        return (
            f"input {name} is complex, so it takes a scale, but neither a shift nor "
            "codes; leave them out"
        )
    return None


def _code_error(given: Any, name: str) -> str | None:
    codes = given.codes
    if not _is_number(codes, int) or not 0 <= codes <= MAX_CODES:
        return f"codes of input {name} is {format_value(codes)}, not 0 to {MAX_CODES}"
    if codes and ("float" in given.dtype or (given.scale, given.shift) != (1, 0)):
        return (
            f"input {name} holds codes, so it must be stored as integers, with scale 1 "
            f"and shift 0, not as {given.dtype} with {given.scale} and {given.shift}"
        )
    return None


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _inputs(manifest: "Manifest") -> list[str]:
    found = []
    names = [spec.name for spec in manifest.inputs]
    if len(set(names)) < len(names):
        found.append(f"input names repeat ({', '.join(names)})")
    found += [fault for spec in manifest.inputs if (fault := input_error(spec))]
    for name, clients in manifest.lacking.items():
        ordered = list(clients) == sorted(set(clients))
        if (
            name not in names
            or not ordered
            or (clients and not 0 <= clients[0] <= clients[-1] < manifest.num_clients)
        ):
            found.append(f"it is not clear who lacks the input {format_value(name)}")
    return found + manifest_faults(manifest)


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
            found.append(f"unknown split {format_value(split)}")
        if counts.shape != (m,) or (counts < 0).any():
            found.append(f"counts of {split} are not {m} numbers of samples")
        elif labels.shape != (m, classes) or (labels < 0).any():
            found.append(f"label counts of {split} are not {m} x {classes} numbers")
        elif max(counts.sum(dtype=float), labels.sum(dtype=float)) > MAX_SAMPLES:
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
            found.append(f"{format_value(file.name)} is not a file name")
        if file.clients[0] != stop or file.clients[1] <= stop:
            found.append(f"{format_value(file.name)} should begin with client {stop}")
        stop = file.clients[1]
    if stop != manifest.num_clients:
        found.append(f"the shards hold {stop} clients, not {manifest.num_clients}")
    if len({file.name for file in manifest.files}) < len(manifest.files):
        found.append("names of shards repeat")
    if not sealed and any(file.block_bytes for file in manifest.files):
        found.append("it has lost the checksum with which it was written")
    return found
