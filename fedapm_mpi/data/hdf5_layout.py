"""Check the objects of an HDF5 file before their contents are read.

A shard is one file with all of its samples. HDF5 has links to other files, data sets
whose values are in other files or are composed of several, types that refer to other
objects, and filters that are loaded from a library. None of these is followed: a
foreign file could otherwise read any other file of its reader.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.data.codes import code_fault
from fedapm_mpi.data.manifest import Manifest, ShardFile
from fedapm_mpi.data.table import weight_fault
from fedapm_mpi.data.target import target_faults

# From HDF5's headers; these numbers are part of its file format.
_HARD_LINK = 0
_CONTIGUOUS, _CHUNKED = 1, 2
_FILTERS = frozenset({1, 2, 3, 32000, 32001, 32015})
"""deflate, shuffle, fletcher32, lzf, blosc, zstd."""

MAX_EXPANSION = 40_000
"""Largest ratio of the bytes of samples to those of a compressed file. Zeros reach 1000
with gzip, and 32 768 with zstd at its best."""

SameType = Callable[[Any, "np.dtype[Any]"], bool]
"""Returns whether an array has exactly the HDF5 type of a NumPy type."""


def arrays(
    file: Any, manifest: Manifest, shard: ShardFile, size: int, same_type: SameType
) -> dict[str, dict[str, Any]]:
    """Check an open shard of `size` bytes against the manifest; return its arrays.

    Raises
    ------
    ValueError
        If it contradicts the manifest, or part of it is in another file.

    Returns
    -------
    dict
        For each split the arrays by path; for ``offset`` its values.
    """
    first, stop = shard.clients
    version, clients = (
        _attribute(file, name) for name in ("schema_version", "clients")
    )
    if version != [manifest.schema_version]:
        msg = f"its schema version is {version}"
        raise ValueError(msg)
    if clients != [first, stop]:
        msg = f"it holds clients {clients}, not {first} to {stop - 1}"
        raise ValueError(msg)
    found: dict[str, dict[str, Any]] = {}
    for split, counts in manifest.counts.items():
        group = child(file["/"], split)
        expected = np.cumsum([0, *counts[first:stop]])
        total = int(expected[-1])
        kinds: dict[str, tuple[tuple[int, ...], str]] = {
            "offset": (expected.shape, "int64"),
            "label": ((total,), "int32"),
        }
        if "row" in group:
            kinds["row"] = (total,), "int64"
        if manifest.target is not None:
            shape = total, *manifest.target.stored_shape
            kinds["target"] = shape, manifest.target.dtype
        if manifest.weights:
            kinds["weight"] = (total,), "float64"
        for s in manifest.inputs:
            kinds[f"inputs/{s.name}"] = (total, *s.stored_shape), s.stored_type.name
            if s.ragged:
                kinds[f"length/{s.name}"] = (total,), "int32"
        found[split] = {
            name: dataset(group, name, *kind, size, same_type)
            for name, kind in kinds.items()
        }
        offset = found[split]["offset"][:]
        if not np.array_equal(offset, expected):
            msg = f"its numbers of {split} samples differ"
            raise ValueError(msg)
        found[split]["offset"] = offset
    return found


def _attribute(file: Any, name: str) -> list[int]:
    """Return the integers of an attribute, one or two."""
    found = file.attrs.get_id(name)
    if found.dtype.kind not in "iu" or np.prod(found.shape) > 2:
        msg = f"its attribute {name} is {found.dtype} {found.shape}"
        raise ValueError(msg)
    return [int(number) for number in np.atleast_1d(file.attrs[name])]


class _Arrays(Protocol):
    """The samples of a client as stored in a shard."""

    @property
    def inputs(self) -> dict[str, NDArray[Any]]: ...
    @property
    def lengths(self) -> dict[str, NDArray[np.int64]]: ...
    @property
    def labels(self) -> NDArray[np.int64]: ...
    @property
    def target(self) -> NDArray[Any] | None: ...
    @property
    def weights(self) -> NDArray[np.float64] | None: ...


def range_faults(samples: _Arrays, manifest: Manifest) -> Iterator[str]:
    """Yield sentences on the first label, lengths, target and weight out of range."""
    limits = [("label", samples.labels, len(manifest.classes) - 1)]
    limits += [
        (f"length of {s.name!r}", samples.lengths[s.name], s.shape[0])
        for s in manifest.inputs
        if s.ragged
    ]
    for what, values, most in limits:
        if values.size and not 0 <= values.min() <= values.max() <= most:
            row = int(np.flatnonzero((values < 0) | (values > most))[0])
            yield f"the {what} in row {row} is {values[row]}, not 0 to {most}"
    for s in manifest.inputs:
        fault = code_fault(s, samples.inputs[s.name]) if s.codes else ""
        if fault:
            yield fault
    if manifest.target is not None and samples.target is not None:
        yield from target_faults(samples.target, manifest.target)
    if samples.weights is not None and (fault := weight_fault(samples.weights)):
        yield fault


def child(group: Any, path: str) -> Any:
    """Return the object under a path of hard links.

    Raises
    ------
    ValueError
        If one of them points out of the group or into another file.
    KeyError
        If there is nothing of that name.
    """
    found = group
    for name in path.split("/"):
        if not hasattr(found, "keys"):
            msg = f"{found.name} is not a group"
            raise ValueError(msg)
        if not found.id.links.exists(name.encode()):
            msg = f"it lacks {found.name.rstrip('/')}/{name}"
            raise ValueError(msg)
        if found.id.links.get_info(name.encode()).type != _HARD_LINK:
            msg = (
                f"{found.name.rstrip('/')}/{name} is a link to somewhere else, which "
                "is not followed"
            )
            raise ValueError(msg)
        found = found[name]
    return found


def dataset(
    group: Any,
    path: str,
    shape: tuple[int, ...],
    dtype: str,
    size: int,
    same_type: SameType,
) -> Any:
    """Return an array that is wholly in this file of `size` bytes.

    Raises
    ------
    ValueError
        If it has another shape or type, or part of it is not in the file.
    """
    found = child(group, path)
    if not hasattr(found, "dtype"):
        msg = f"{found.name} is not an array"
        raise ValueError(msg)
    wanted = np.dtype(dtype)
    if found.shape != shape or found.dtype != wanted:
        msg = f"{found.name} is {found.dtype} {found.shape}, not {dtype} {shape}"
        raise ValueError(msg)
    if not same_type(found, wanted):
        msg = f"{found.name} has another type than {dtype}"
        raise ValueError(msg)
    _check_layout(found, math.prod(shape) * wanted.itemsize, size)
    return found


def filters(found: Any) -> list[int]:
    """Return the numbers of the filters that the chunks of an array go through.

    Raises
    ------
    ValueError
        If one of them is not one with which shards are written.
    """
    layout = found.id.get_create_plist()
    used = [layout.get_filter(k)[0] for k in range(layout.get_nfilters())]
    odd = [number for number in used if number not in _FILTERS]
    if odd:
        msg = f"{found.name} went through filter {odd[0]}, which shards do not use"
        raise ValueError(msg)
    return used


def _check_layout(found: Any, wanted: int, size: int) -> None:
    layout = found.id.get_create_plist()
    kind = layout.get_layout()
    if kind not in (_CONTIGUOUS, _CHUNKED):
        msg = f"{found.name} does not lie in one piece or in chunks of this file"
        raise ValueError(msg)
    if layout.get_external_count():
        msg = f"the numbers of {found.name} lie in other files, which are not read"
        raise ValueError(msg)
    filters(found)
    if not wanted:
        return
    if kind == _CONTIGUOUS:
        start = found.id.get_offset()
        there = start is not None and start + wanted <= size
    else:
        number = math.prod(
            -(-n // c) for n, c in zip(found.shape, found.chunks, strict=True)
        )
        there = found.id.get_num_chunks() == number
        there = there and wanted <= MAX_EXPANSION * size
    if not there:
        msg = f"the {wanted} bytes that {found.name} should have are not in the file"
        raise ValueError(msg)
