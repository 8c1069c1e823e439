"""Whether a data set on disk is what its manifest says, sample by sample."""

from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .manifest import Manifest, ShardFile
from .shardfile import ClientArrays
from .shards import ShardReader, verify_checksum

MOST_FAULTS = 10
"""Faults that are told one by one."""

OVERLAPPING = "official-"
"""How the names of partitioners begin that give a sample to several clients."""


class Repeats(NamedTuple):
    """Samples whose inputs are those of another sample, bit for bit."""

    apart: list[str]
    """One sentence for each kind of repeat that disjoint parts should not have."""

    within: int
    """Samples that equal one of the same client in the same split."""


class _Prints(NamedTuple):
    """A fingerprint of every sample, and where it is."""

    values: NDArray[np.uint64]
    """(N, 2)."""

    clients: NDArray[np.int64]
    splits: NDArray[np.int64]
    """(N,) places in `Manifest.counts`."""


def verify(manifest: Manifest) -> Iterator[tuple[ShardFile, _Prints]]:
    """Check one shard after the other; yield each with its samples' fingerprints.

    Checked are its size and SHA-256, the number of samples of every client, that labels
    are classes and as often as the manifest says, that lengths fit, that values are
    finite, and that those have an input, and only those, who are said to.

    Raises
    ------
    DataError
        If a shard is missing or damaged, or contradicts the manifest; it names up to
        ten clients.
    """
    reader = ShardReader(manifest)
    for shard in manifest.files:
        verify_checksum(manifest, shard)
        faults: list[str] = []
        prints: list[_Prints] = []
        for client in range(*shard.clients):
            parts = [reader.read(client, split) for split in manifest.counts]
            faults += _faults(manifest, client, parts)
            for k, part in enumerate(parts):
                n = len(part.labels)
                where = np.full(n, client), np.full(n, k)
                prints.append(_Prints(_fingerprints(part), *where))
        if faults:
            more = len(faults) - MOST_FAULTS
            told = faults[:MOST_FAULTS] + ([f"and {more} more"] if more > 0 else [])
            msg = (
                f"{manifest.directory}/{shard.name} is as it was written, but not what "
                f"the manifest says; prepare the data set again: {'; '.join(told)}"
            )
            raise DataError(msg)
        yield shard, join(prints)
    reader.close()


def join(prints: list[_Prints]) -> _Prints:
    """Return the fingerprints of several as one."""
    return _Prints(*(np.concatenate(column) for column in zip(*prints, strict=True)))


def repeats(manifest: Manifest, prints: _Prints) -> Repeats:
    """Tell which samples are there more than once.

    Parameters
    ----------
    manifest
        The data set.
    prints
        The fingerprints of all its samples.
    """
    names = list(manifest.counts)
    order = np.lexsort((prints.splits, prints.clients, *prints.values.T))
    values, clients, splits = (column[order] for column in prints)
    same = (values[1:] == values[:-1]).all(axis=1)
    other_client = same & (clients[1:] != clients[:-1])
    other_split = same & (splits[1:] != splits[:-1])
    apart = []
    for found, what in (
        (other_split, "are in several splits"),
        (other_client & ~other_split, "are with several clients"),
    ):
        at = np.flatnonzero(found)
        if at.size:
            first = " and ".join(
                f"{names[splits[i]]} of client {clients[i]}" for i in (at[0], at[0] + 1)
            )
            apart.append(f"{at.size} samples {what} (the first: {first})")
    within = same & ~other_client & ~other_split
    return Repeats(apart, int(within.sum()))


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
    """Return what of a client is not as it should be, in words."""
    where = f"client {client} ({manifest.client_names[client]})"
    classes = len(manifest.classes)
    faults = []
    for split, part in zip(manifest.counts, parts, strict=True):
        labels = part.labels
        if ((labels < 0) | (labels >= classes)).any():
            faults.append(f"{where} has {split} labels beyond 0 to {classes - 1}")
        elif not np.array_equal(
            np.bincount(labels, minlength=classes), manifest.label_counts[split][client]
        ):
            faults.append(f"{where} has other numbers of {split} labels")
        for spec in manifest.inputs:
            values, lengths = part.inputs[spec.name], part.lengths.get(spec.name)
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                faults.append(f"{where} has {split} values of {spec.name!r} not finite")
            if (
                lengths is not None
                and ((lengths < 0) | (lengths > spec.shape[0])).any()
            ):
                faults.append(
                    f"{where} has {split} lengths of {spec.name!r} beyond "
                    f"{spec.shape[0]}"
                )
    for spec in manifest.inputs:
        if spec.ragged:
            has = any((part.lengths[spec.name] > 0).any() for part in parts)
            if has == (client in manifest.lacking.get(spec.name, ())):
                word = "has" if has else "lacks"
                faults.append(f"{where} {word} {spec.name!r}, against the manifest")
    return faults
