"""Keep a part of each client's training samples: what a client has few labels with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.splits import Indices, Parts, every_kth
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.rng import Purpose, generator


@dataclass(frozen=True, kw_only=True)
class Keep:
    """How many training samples each client keeps.

    Attributes
    ----------
    fraction
        Part of the client's training samples, at least one of them.
    per_client
        Number of them, the same for every client.
    stratified
        Whether labels keep their shares; else samples are drawn whatever they are.
    rest
        What the others are: in no part at all, or the val part.
    """

    fraction: float | None = None
    per_client: int | None = None
    stratified: bool = True
    rest: Literal["left-out", "val"] = "left-out"

    def __post_init__(self) -> None:
        if (self.fraction is None) == (self.per_client is None):
            msg = "needs fraction or per_client, not both, such as keep.fraction=0.1"
            raise ValueError(msg)
        if self.fraction is not None and not 0 < self.fraction < 1:
            msg = f"fraction={self.fraction} must be above 0 and below 1"
            raise ValueError(msg)
        if self.per_client is not None and self.per_client < 1:
            msg = f"per_client must be at least 1, got {self.per_client}"
            raise ValueError(msg)

    def count(self, available: int) -> int:
        """Return how many of a client's training samples are kept."""
        if self.fraction is None:
            assert self.per_client is not None  # as the check on creation has found
            return self.per_client
        return max(1, round(available * self.fraction))


def keep_labels(
    keep: Keep,
    splits: Mapping[str, Sequence[Indices]],
    labels: Indices,
    groups: Indices | None,
    names: Sequence[str],
    seed: int,
) -> tuple[dict[str, list[Indices]], str]:
    """Return the splits with fewer training samples, and a note on what was kept.

    A client's draw follows from (seed, client) and its own training samples, so it does
    not depend on other clients. Samples are drawn one by one, also where they are in
    groups. Test parts stay as they are.

    Parameters
    ----------
    keep
        How many, and what becomes of the others.
    splits
        Split name to the sorted rows of each client.
    labels, groups
        ``(N,)`` label of each sample, and its group if there are groups.
    names
        The clients' names.
    seed
        Seed of the preparation.

    Raises
    ------
    ConfigError
        If a client has too few samples, nothing would be left out, or the others cannot
        be a val part.
    """
    train = splits["train"]
    _check(keep, train, names, has_val="val" in splits)
    kept, others = [], []
    for client, rows in enumerate(train):
        rng = generator(seed, Purpose.KEPT, client)
        chosen = _drawn(labels[rows], keep.count(len(rows)), rng, keep.stratified)
        kept.append(rows[chosen])
        others.append(rows[~chosen])
    left = {name: list(parts) for name, parts in splits.items()}
    left["train"] = kept
    note = _note(train, kept)
    if keep.rest == "val":
        left["val"], mixed = _unrelated(others, kept, groups)
        if not any(len(rows) for rows in left["val"]):
            msg = (
                "keep.rest=val: every sample that is not kept is of a group with one "
                "that is, and no group may be in two parts; leave keep.rest out"
            )
            raise ConfigError(msg)
        note += ", the others are the val part"
        if mixed:
            note += f", but for {mixed} of a group with a kept sample, in no part"
    return left, note


def _check(keep: Keep, train: Parts, names: Sequence[str], *, has_val: bool) -> None:
    if keep.rest == "val" and has_val:
        msg = "keep.rest=val: the data set has a val part already; leave keep.rest out"
        raise ConfigError(msg)
    short = [i for i, rows in enumerate(train) if keep.count(len(rows)) > len(rows)]
    if short:
        first = short[0]
        most = min(len(rows) for rows in train)
        others = len(short) - 1
        more = (
            f", and {others} more client{' has' if others == 1 else 's have'} too few"
            if others
            else ""
        )
        msg = (
            f"keep.per_client={keep.per_client}: {names[first]} (client {first}) has "
            f"{len(train[first])} training samples{more}; keep at most {most} of each "
            "client, or a part by keep.fraction"
        )
        raise ConfigError(msg)
    if all(keep.count(len(rows)) == len(rows) for rows in train):
        msg = (
            "keep would leave nothing out: every client has that few training samples; "
            "keep fewer, or leave keep out"
        )
        raise ConfigError(msg)


def _drawn(
    labels: Indices, wanted: int, rng: np.random.Generator, stratified: bool
) -> NDArray[np.bool_]:
    """Return which samples are drawn, each as likely as any other.

    Stratified: ordered by label (labels and equal ones in random order), every k-th
    from a random start, so the number of each label is exact to within one.
    """
    number = len(labels)
    chosen = np.zeros(number, bool)
    order = rng.permutation(number)
    if stratified:
        of_label = rng.permutation(int(labels.max(initial=0)) + 1)
        order = order[np.argsort(of_label[labels[order]], kind="stable")]
        order = order[every_kth(number, wanted, rng)]
    chosen[order[:wanted]] = True
    return chosen


def _unrelated(
    others: Sequence[Indices], kept: Sequence[Indices], groups: Indices | None
) -> tuple[list[Indices], int]:
    """Return each client's rows of no kept group, and how many others there are."""
    if groups is None:
        return list(others), 0
    apart = [
        rows[~np.isin(groups[rows], groups[own])]
        for rows, own in zip(others, kept, strict=True)
    ]
    return apart, sum(map(len, others)) - sum(map(len, apart))


def _note(train: Parts, kept: Parts) -> str:
    sizes = [len(rows) for rows in kept]
    each = (
        f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    )
    return (
        f"{sum(sizes)} of {sum(map(len, train))} training samples are kept, {each} of "
        "each client"
    )
