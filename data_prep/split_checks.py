"""Checks of splits, and notes on the split of a data set."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from data_prep.splits import Indices, Parts
from fedapm_mpi.data.manifest import SPLITS
from fedapm_mpi.errors import DataError

REMEDY_DRAWN = (
    "make fewer clients, set a larger partitioner.min_samples or another seed, or have "
    "the samples of every client divided with split=random"
)
"""Remedy where a partitioner has made the clients."""

REMEDY = (
    "make new clients of such with new_clients=untrained, mark some of their samples "
    "as train, or have the samples of every client divided with split=random"
)


def check_own(codes: NDArray[np.int8], dataset: str) -> None:
    """Check that a data set's own split has training and test samples.

    Parameters
    ----------
    codes
        ``(N,)`` 0 train, 1 test, 2 val.
    dataset
        Its name, for messages.

    Raises
    ------
    DataError
        If it has no sample for training or for testing.
    """
    counts = np.bincount(codes, minlength=len(SPLITS)).tolist()
    sizes = ", ".join(f"{n} {name}" for n, name in zip(counts, SPLITS, strict=True))
    for code, what in ((0, "training"), (1, "test")):
        if not counts[code]:
            msg = (
                f"{dataset}: its own split has no {what} samples ({sizes}); mark some "
                f"of them as {SPLITS[code]}, or have a random split made with "
                "split=random"
            )
            raise DataError(msg)


def groups_on_both_sides(codes: NDArray[np.int8], groups: Indices) -> str:
    """Return a note on groups that a data set's own split divides; empty without any.

    Parameters
    ----------
    codes
        ``(N,)`` 0 train, 1 test, 2 val.
    groups
        ``(N,)`` group of each sample.
    """
    distinct, of_sample = np.unique(groups, return_inverse=True)
    trained = np.zeros(len(distinct), bool)
    trained[of_sample[codes == 0]] = True
    shared = (codes > 0) & trained[of_sample]
    if not shared.any():
        return ""
    divided = len(np.unique(of_sample[shared]))
    return (
        f"{divided} of {len(distinct)} groups have samples on both sides of the data "
        f"set's own split: {shared.sum()} of {(codes > 0).sum()} test and val samples "
        "are of a group that is trained on, so results look better than they are on "
        "new groups; split=random keeps groups whole"
    )


def check_trained(
    splits: Mapping[str, Parts],
    names: Sequence[str],
    dataset: str,
    *,
    published: bool,
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
    published
        Whether the split is the data set's own.
    remedy
        Remedy if the data set's own split leaves a client without one.

    Raises
    ------
    DataError
        If a client has none; the message has the reason and a remedy.
    """
    empty = [client for client, rows in enumerate(splits["train"]) if not len(rows)]
    if not empty:
        return
    first = empty[0]
    sizes = {n: len(parts[first]) for n, parts in splits.items() if len(parts[first])}
    total = sum(sizes.values())
    others = len(empty) - 1
    none = f"and {others} more have" if others else "has"
    who = f"{dataset}: {names[first]} (client {first}) {none} no training sample"
    if not total:
        msg = f"{who}: client {first} has no samples at all; make fewer clients"
    elif published:
        every = f"all {total} samples" if total > 1 else "the only sample"
        msg = (
            f"{who}: the data set's own split marks {every} of client {first} as "
            f"{' or '.join(sizes)}, and a client needs at least one to train on; "
            + remedy
        )
    else:
        msg = (
            f"{who}: of the {total} samples of client {first} none is left to train "
            "on; make fewer clients, set a larger partitioner.min_samples or a smaller "
            "test"
        )
    raise DataError(msg)
