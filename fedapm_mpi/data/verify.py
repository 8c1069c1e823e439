"""Verify a data set on disk against its manifest, sample by sample."""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.data.hdf5 import ClientArrays
from fedapm_mpi.data.hdf5_layout import range_faults
from fedapm_mpi.data.held_columns import is_blank
from fedapm_mpi.data.manifest import Manifest, ShardFile
from fedapm_mpi.data.number_types import all_finite
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.errors import DataError

MAX_FAULTS = 10
"""Faults that are listed one by one."""

OVERLAPPING = "official-"
"""Prefix of the partitioners that give a sample to several clients, in any split."""


class Duplicates(NamedTuple):
    """Samples that occur more than once, and samples that equal another."""

    apart: list[str]
    """Sentences on samples of the source that occur in two places."""

    equal: list[str]
    """Sentences on samples with equal inputs, bit for bit, that are different samples
    of the source or of unknown origin."""

    within: int
    """Number of samples that equal one of the same client in the same split."""

    intended: list[str]
    """Sentences as those on samples `apart`, which the partitioner intends."""


class _Fingerprints(NamedTuple):
    """A fingerprint of every sample, and its place."""

    values: NDArray[np.uint64]
    """(N, 2)."""

    clients: NDArray[np.int64]
    splits: NDArray[np.int64]
    """(N,) indices of splits in `Manifest.counts`."""

    rows: NDArray[np.int64]
    """(N,) number of each sample in the source; -1 where it was not written."""


def verify(manifest: Manifest) -> Iterator[tuple[ShardFile, _Fingerprints]]:
    """Verify the shards in order; yield each with its samples' fingerprints.

    For each shard these are compared with the manifest: its size and SHA-256, the
    checksums of its blocks, the number of samples of every client, the histogram of
    labels, and which clients have an input. It must not refer to another file, labels
    and lengths must be in range and values finite.

    Raises
    ------
    DataError
        If a shard is missing or damaged, or contradicts the manifest; it names up to
        ten clients.
    """
    reader = ShardReader(manifest)
    for shard in manifest.files:
        reader.hash(shard)
        faults: list[str] = []
        prints: list[_Fingerprints] = []
        for client in range(*shard.clients):
            parts = [
                reader.read(client, split, validate=False) for split in manifest.counts
            ]
            faults += _faults(manifest, client, parts)
            for k, (split, part) in enumerate(zip(manifest.counts, parts, strict=True)):
                n = len(part.labels)
                rows = reader.rows(client, split)
                prints.append(
                    _Fingerprints(
                        _fingerprints(part),
                        np.full(n, client),
                        np.full(n, k),
                        np.full(n, -1) if rows is None else rows,
                    )
                )
        if faults:
            more = len(faults) - MAX_FAULTS
            listed = faults[:MAX_FAULTS] + ([f"and {more} more"] if more > 0 else [])
            msg = (
                f"{manifest.directory}/{shard.name} is as it was written, but not what "
                f"the manifest says; prepare the data set again: {'; '.join(listed)}"
            )
            raise DataError(msg)
        yield shard, join(prints)
    reader.close()


def join(prints: list[_Fingerprints]) -> _Fingerprints:
    """Concatenate fingerprints."""
    return _Fingerprints(
        *(np.concatenate(column) for column in zip(*prints, strict=True))
    )


def find_duplicates(manifest: Manifest, prints: _Fingerprints) -> Duplicates:
    """Find the samples that occur more than once.

    Samples are distinguished by their rows in the source, where these were written;
    samples with equal inputs may be different rows of the source.

    Parameters
    ----------
    manifest
        The data set.
    prints
        The fingerprints of all its samples.
    """
    placed = _pairs(prints, prints.rows[:, None], np.flatnonzero(prints.rows >= 0))
    apart, intended = _placed_twice(manifest, placed)
    pairs = _pairs(prints, prints.values, np.arange(len(prints.rows)))
    rows = pairs.rows
    same_row = (rows[:, 0] == rows[:, 1]) & (rows[:, 0] >= 0)
    other = _Places(*(column[~same_row] for column in pairs))
    equal = _sentences(
        manifest,
        other,
        "equal to one of another split",
        "equal to another client's",
    )
    within = (pairs.clients[:, 0] == pairs.clients[:, 1]) & (
        pairs.splits[:, 0] == pairs.splits[:, 1]
    )
    return Duplicates(apart, equal, int(within.sum()), intended)


def _placed_twice(manifest: Manifest, placed: "_Places") -> tuple[list[str], list[str]]:
    """Return sentences on samples in two places: faults, and what is intended."""
    words = "in several splits", "with several clients"
    name = str(manifest.partitioner.get("name", ""))
    if name.startswith(OVERLAPPING):
        return [], _sentences(manifest, placed, *words)
    if manifest.partitioner.get("one_split") is not True:
        return _sentences(manifest, placed, *words), []
    same = placed.splits[:, 0] == placed.splits[:, 1]
    faults, shared = (_Places(*(c[at] for c in placed)) for at in (~same, same))
    return _sentences(manifest, faults, *words), _sentences(manifest, shared, *words)


class _Places(NamedTuple):
    """Places of the two samples of each pair, (pairs, 2)."""

    clients: NDArray[np.int64]
    splits: NDArray[np.int64]
    rows: NDArray[np.int64]


def _pairs(
    prints: _Fingerprints, keys: NDArray[Any], among: NDArray[np.int64]
) -> _Places:
    """Return pairs of samples with the same key, neighbors in order of their place."""
    order = among[
        np.lexsort((prints.splits[among], prints.clients[among], *keys[among].T))
    ]
    at = np.flatnonzero((keys[order][1:] == keys[order][:-1]).all(axis=1))
    both = np.stack([order[at], order[at + 1]], axis=1)
    both = both[np.argsort(both[:, 0], kind="stable")]
    return _Places(prints.clients[both], prints.splits[both], prints.rows[both])


def _sentences(
    manifest: Manifest, pairs: _Places, in_splits: str, with_clients: str
) -> list[str]:
    """Return sentences on the pairs in different places, with the first of them."""
    names = list(manifest.counts)
    other_client = pairs.clients[:, 0] != pairs.clients[:, 1]
    other_split = pairs.splits[:, 0] != pairs.splits[:, 1]
    sentences = []
    for found, what in (
        (other_split, in_splits),
        (other_client & ~other_split, with_clients),
    ):
        at = np.flatnonzero(found)
        if at.size:
            first = " and ".join(
                f"{names[split]} of client {client}" + (f", row {row}" * (row >= 0))
                for client, split, row in zip(
                    *(column[at[0]].tolist() for column in pairs), strict=True
                )
            )
            verb = "samples are" if at.size > 1 else "sample is"
            sentences.append(f"{at.size} {verb} {what} (the first: {first})")
    return sentences


def _fingerprints(part: ClientArrays) -> NDArray[np.uint64]:
    """Return 128 bits of each sample's inputs and lengths, (n, 2)."""
    arrays = [np.ascontiguousarray(x) for x in part.inputs.values()]
    arrays += [np.ascontiguousarray(x) for x in part.lengths.values()]
    found = bytearray()
    for row in range(len(part.labels)):
        digest = blake2b(digest_size=16)
        for array in arrays:
            digest.update(array[row].tobytes())
        found += digest.digest()
    return np.frombuffer(bytes(found), np.uint64).reshape(-1, 2)


def _faults(manifest: Manifest, client: int, parts: list[ClientArrays]) -> list[str]:
    """Return sentences on what is wrong with a client's samples."""
    where = f"client {client} ({manifest.client_names[client]})"
    classes = len(manifest.classes)
    faults = []
    for split, part in zip(manifest.counts, parts, strict=True):
        ranges = list(range_faults(part, manifest))
        faults += [f"{where}: of its {split} samples, {fault}" for fault in ranges]
        if not ranges and not np.array_equal(
            np.bincount(part.labels, minlength=classes),
            manifest.label_counts[split][client],
        ):
            faults.append(f"{where} has other numbers of {split} labels")
        for spec in manifest.inputs:
            if not all_finite(part.inputs[spec.name], spec.dtype):
                faults.append(f"{where} has {split} values of {spec.name!r} not finite")
            held = manifest.columns.get(spec.name)
            if held is not None and not is_blank(
                part.inputs[spec.name], held[client], pairs=spec.complex
            ):
                word = f"{split} values in columns of {spec.name!r}"
                faults.append(f"{where} has {word} that it is said not to have")
    for spec in manifest.inputs:
        if spec.ragged:
            has = any((part.lengths[spec.name] > 0).any() for part in parts)
            if has == (client in manifest.lacking.get(spec.name, ())):
                word = "has" if has else "lacks"
                faults.append(f"{where} {word} {spec.name!r}, against the manifest")
    return faults
