"""Divide each client's samples into train, test and, optionally, val."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_prep.partitioners.base import Pool, units
from fedapm_mpi.data.manifest import SPLITS
from fedapm_mpi.utils.rng import Purpose, generator

Indices = NDArray[np.int64]
Parts = Sequence[Indices]


def random_splits(
    pool: Pool, parts: Parts, *, seed: int, test: float, val: float
) -> dict[str, list[Indices]]:
    """Split each client at random, stratified by label, whole groups at a time.

    The random stream of a client follows from (seed, client), so its split does not
    depend on other clients. A client keeps at least one group (one sample without
    groups) in train; a second one goes to test.

    Parameters
    ----------
    pool
        All samples.
    parts
        The rows of each client.
    seed
        Seed of the preparation.
    test, val
        Fractions of these splits; val is left out if 0.

    Returns
    -------
    dict
        Split name to the sorted rows of each client.
    """
    names = SPLITS[: 3 if val else 2]
    splits: dict[str, list[Indices]] = {name: [] for name in names}
    for client, rows in enumerate(parts):
        groups = None if pool.groups is None else pool.groups[rows]
        made = units(Pool(pool.labels[rows], None, groups))
        rng = generator(seed, Purpose.SPLIT, client)
        chosen = choose(made.labels, made.sizes, rng, test=test, val=val)
        # Of this client only: another may have the same sample in another split.
        codes = chosen[made.of_sample]
        for code, name in enumerate(names):
            splits[name].append(rows[codes == code])
    return splits


def official_splits(
    parts: Parts, *, seed: int, test: float
) -> dict[str, list[Indices]]:
    """Split each client as the FedAPM authors' code does: shuffle, and cut in two.

    Of n samples the first floor((1 - test) n) are for training. Testing starts one
    sample late, so each client loses one. Nothing is stratified.

    Parameters
    ----------
    parts
        The rows of each client.
    seed
        Seed of the preparation.
    test
        Fraction of this split.

    Returns
    -------
    dict
        Split name to the sorted rows of each client.
    """
    splits: dict[str, list[Indices]] = {"train": [], "test": []}
    for client, rows in enumerate(parts):
        shuffled = generator(seed, Purpose.SPLIT, client).permutation(rows)
        cut = int((1 - test) * len(rows))
        splits["train"].append(np.sort(shuffled[:cut]))
        splits["test"].append(np.sort(shuffled[cut + 1 :]))
    return splits


def rows_of(parts: Parts, number: int) -> Indices:
    """Return which of `number` rows are in any part, sorted."""
    found = np.zeros(number, bool)
    for rows in parts:
        found[rows] = True
    return np.flatnonzero(found)


def own_splits(codes: NDArray[np.int8], parts: Parts) -> dict[str, list[Indices]]:
    """Split each client by the codes of its samples: 0 train, 1 test, 2 val."""
    number = max(2, int(codes.max(initial=0)) + 1)
    return {
        name: [rows[codes[rows] == code] for rows in parts]
        for code, name in enumerate(SPLITS[:number])
    }


def choose(
    labels: Indices,
    sizes: Indices,
    rng: np.random.Generator,
    *,
    test: float,
    val: float,
) -> NDArray[np.int8]:
    """Choose units for test and val; each is as likely to be chosen as any other.

    Units are ordered by label (labels in random order), within a label by size, equal
    sizes in random order; every k-th from a random start is chosen. So the share of
    each label, and of long and short groups, is exact to within one unit.

    Parameters
    ----------
    labels, sizes
        ``(u,)`` label and number of samples of each unit.
    rng
        The client's generator.
    test, val
        Fractions of these splits.

    Returns
    -------
    NDArray
        ``(u,)`` 0 for train, 1 for test, 2 for val.
    """
    number = len(labels)
    codes = np.zeros(number, np.int8)
    label_order = rng.permutation(int(labels.max(initial=0)) + 1)
    row = np.lexsort((rng.random(number), sizes, label_order[labels]))
    for code, fraction in ((1, test), (2, val)):
        if not fraction:
            continue
        wanted = max(1, round(number * fraction))
        # Train keeps one, whatever the fraction.
        wanted = max(0, min(wanted, len(row) - 1))
        at = every_kth(len(row), wanted, rng)
        codes[row[at]] = code
        row = np.delete(row, at)
    return codes


def every_kth(number: int, wanted: int, rng: np.random.Generator) -> Indices:
    """Return `wanted` of `number` places, evenly spaced from a random start."""
    at = (np.arange(wanted) + rng.random()) * (number / max(1, wanted))
    places: Indices = at.astype(int)
    return places
