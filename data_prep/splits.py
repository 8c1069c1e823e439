"""Each client's samples divided into train, test and, if wanted, val."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.errors import DataError
from fedapm_mpi.manifest import SPLITS
from fedapm_mpi.seeding import stream

from .partitioners.base import Pool, units

Indices = NDArray[np.int64]
Parts = Sequence[Indices]

REMEDY = (
    "leave such clients out of the data, mark some of their samples as train, or have "
    "the samples of every client divided with split=random"
)


def random_splits(
    pool: Pool, parts: Parts, *, seed: int, test: float, val: float
) -> dict[str, list[Indices]]:
    """Split each client at random, stratified by label, whole groups at a time.

    Every client's draw is addressed by (seed, client), and so does not depend on the
    other clients. A client keeps at least one group (one sample, where there are no
    groups) in train, and if it has a second one that goes to test.

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
        rng = stream(seed, "split", client)
        chosen = choose(made.labels, made.sizes, rng, test=test, val=val)
        # Of this client alone: another may hold the same sample, in another split.
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
        shuffled = stream(seed, "split", client).permutation(rows)
        cut = int((1 - test) * len(rows))
        splits["train"].append(np.sort(shuffled[:cut]))
        splits["test"].append(np.sort(shuffled[cut + 1 :]))
    return splits


def check_own(codes: NDArray[np.int8], dataset: str, number: int) -> None:
    """Check a data set's own split.

    Parameters
    ----------
    codes
        ``(N,)`` 0 train, 1 test, 2 val.
    dataset
        Its name, for messages.
    number
        N.

    Raises
    ------
    DataError
        If it is no such array, or has no sample for training or for testing.
    """
    remedy = "or have a random split made with split=random"
    if codes.shape != (number,) or codes.dtype.kind not in "iu":
        msg = (
            f"{dataset}: its own split is an array of {codes.dtype} of the shape "
            f"{codes.shape}; it must be an integer for each of the {number} samples, "
            + remedy
        )
        raise DataError(msg)
    wrong = np.flatnonzero((codes < 0) | (codes >= len(SPLITS)))
    if wrong.size:
        msg = (
            f"{dataset}: its own split marks sample {wrong[0]} as {codes[wrong[0]]}; "
            f"it must be 0 (train), 1 (test) or 2 (val), {remedy}"
        )
        raise DataError(msg)
    counts = np.bincount(codes, minlength=len(SPLITS)).tolist()
    held = ", ".join(f"{n} {name}" for n, name in zip(counts, SPLITS, strict=True))
    for code, what in ((0, "training"), (1, "test")):
        if not counts[code]:
            msg = (
                f"{dataset}: its own split has no {what} samples ({held}); mark some "
                f"of them as {SPLITS[code]}, {remedy}"
            )
            raise DataError(msg)


def groups_on_both_sides(codes: NDArray[np.int8], groups: Indices) -> str:
    """Return a note on groups that a data set's own split divides, if there are any.

    Parameters
    ----------
    codes
        ``(N,)`` 0 train, 1 test, 2 val.
    groups
        ``(N,)`` group of each sample.
    """
    known, of_sample = np.unique(groups, return_inverse=True)
    trained = np.zeros(len(known), bool)
    trained[of_sample[codes == 0]] = True
    shared = (codes > 0) & trained[of_sample]
    if not shared.any():
        return ""
    divided = len(np.unique(of_sample[shared]))
    return (
        f"{divided} of {len(known)} groups have samples on both sides of the data "
        f"set's own split: {shared.sum()} of {(codes > 0).sum()} test and val samples "
        "are of a group that is trained on, so results look better than they are on "
        "new groups; split=random keeps groups whole"
    )


def check_trained(
    splits: Mapping[str, Parts],
    names: Sequence[str],
    dataset: str,
    *,
    own: bool,
    remedy: str = REMEDY,
) -> None:
    """Check that every client has a sample to train on.

    Parameters
    ----------
    splits
        Split name to the rows of each client.
    names
        The clients' names.
    dataset
        Its name, for messages.
    own
        Whether it is the data set's own split.
    remedy
        What can be done if this leaves a client without.

    Raises
    ------
    DataError
        If a client has none; the message says why, and what can be done.
    """
    empty = [client for client, rows in enumerate(splits["train"]) if not len(rows)]
    if not empty:
        return
    first = empty[0]
    held = {n: len(parts[first]) for n, parts in splits.items() if len(parts[first])}
    total = sum(held.values())
    others = len(empty) - 1
    none = f"and {others} more have" if others else "has"
    who = f"{dataset}: {names[first]} (client {first}) {none} no training sample"
    if not total:
        msg = f"{who}: client {first} has no samples at all; make fewer clients"
    elif own:
        msg = (
            f"{who}: the data set's own split marks all {total} samples of client "
            f"{first} as {' or '.join(held)}, and a client needs at least one to train "
            f"on; {remedy}"
        )
    else:
        msg = (
            f"{who}: of the {total} samples of client {first} none is left to train "
            "on; make fewer clients, set a larger partitioner.min_samples or a smaller "
            "test"
        )
    raise DataError(msg)


def own_splits(codes: NDArray[np.int8], parts: Parts) -> dict[str, list[Indices]]:
    """Split each client as the codes of its samples say: 0 train, 1 test, 2 val."""
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

    Units stand in a row by label (labels in random order), within a label by size,
    equal ones in random order; every k-th from a random start is chosen. So each
    label's share, and that of long and short groups, is right to within one unit.

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
        start = rng.random()
        at = ((np.arange(wanted) + start) * (len(row) / max(1, wanted))).astype(int)
        codes[row[at]] = code
        row = np.delete(row, at)
    return codes
