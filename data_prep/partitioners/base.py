"""Input and output of partitioners, and functions that several of them use."""

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.distinct import distinct
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.registry import Registry

Indices = NDArray[np.int64]

partitioners: Registry[Callable[..., Sequence[Indices]]] = Registry(
    "partitioner", "data_prep.partitioners"
)


Within = Annotated[Mapping[str, Any], "partitioner"]
"""Type of an option that is itself a partitioner: a name and options, which are checked
before anything is read."""


class Pool(NamedTuple):
    """The N samples that a partitioner sees, without their inputs."""

    labels: Indices
    """(N,) labels from 0."""

    ids: Indices | None = None
    """(N,) natural client of each sample."""

    groups: Indices | None = None
    """(N,) samples of one group, such as overlapping windows of one recording, must
    stay together; a group lies within one natural client."""

    values: NDArray[Any] | None = None
    """(N,) first target of each sample, where samples have targets."""


class Parts(list[Indices]):
    """The sorted samples of each client.

    Attributes
    ----------
    moved
        Number of samples that were moved to reach a minimum.
    overlapping
        Whether a sample may be with several clients, or with none.
    """

    def __init__(
        self, clients: Sequence[Indices], moved: int = 0, *, overlapping: bool = False
    ) -> None:
        super().__init__(clients)
        self.moved = moved
        self.overlapping = overlapping


def may_overlap(parts: Sequence[Indices]) -> bool:
    """Return whether parts, which may be a user's plain list, may overlap."""
    return isinstance(parts, Parts) and parts.overlapping


def are_the_same(parts: Sequence[Indices]) -> bool:
    """Return whether several clients have the same samples, in the same order."""
    several = len(parts) > 1 and may_overlap(parts)
    return several and all(np.array_equal(rows, parts[0]) for rows in parts[1:])


def num_moved(parts: Sequence[Indices]) -> int:
    """Return how many samples were moved to reach a minimum; 0 for a plain list."""
    return parts.moved if isinstance(parts, Parts) else 0


def properties(parts: Sequence[Indices]) -> dict[str, Any]:
    """Return the properties of parts that a manifest records.

    ``one_split`` says that all clients have the same samples in each split.
    """
    found: dict[str, Any] = {"moved": num_moved(parts)}
    if may_overlap(parts):
        found |= {"overlapping": True, "distinct": len(np.unique(_all(parts)))}
    if are_the_same(parts):
        found["one_split"] = True
    return found


def find_fault(parts: Sequence[Indices], total: int) -> str:
    """Describe what is wrong with parts of `total` samples; empty if nothing is."""
    if may_overlap(parts):
        if not len(parts):
            return "no clients"
        for client, rows in enumerate(parts):
            samples, times = np.unique(rows, return_counts=True)
            for sample in samples[times > 1][:1].tolist():
                return f"sample {sample} to client {client} more than once"
            for sample in samples[(samples < 0) | (samples >= total)][:1].tolist():
                return f"client {client} sample {sample}, but there are only {total}"
        return ""
    if _is_partition(parts, total):
        return ""
    rows = _all(parts)
    times = np.bincount(rows[(rows >= 0) & (rows < total)], minlength=total)
    wrong = np.flatnonzero(times != 1)
    what = f"sample {wrong[0]} to {times[wrong[0]]} clients" if wrong.size else "more"
    return f"{what}; each of the {total} samples must go to exactly one client"


def _is_partition(parts: Sequence[Indices], total: int) -> bool:
    """Return whether each of `total` samples is in exactly one part, once."""
    seen = np.zeros(total, bool)
    for rows in parts:
        if len(rows) and not 0 <= rows.min() <= rows.max() < total:
            return False
        seen[rows] = True
    return sum(map(len, parts)) == total and bool(seen.all())


def _all(parts: Sequence[Indices]) -> Indices:
    return np.concatenate([np.empty(0, np.int64), *parts])


class Units(NamedTuple):
    """What a client gets as a whole: single samples, or groups where there are any."""

    labels: Indices
    """(U,) the most frequent label of each unit."""

    sizes: Indices
    """(U,) number of samples of each."""

    of_sample: Indices
    """(N,) the unit of each sample."""


def units(pool: Pool) -> Units:
    """Return the units of a pool."""
    number = len(pool.labels)
    if pool.groups is None:
        one = np.broadcast_to(np.int64(1), number)  # takes no memory
        return Units(pool.labels, one, np.arange(number))
    _, of_sample = distinct(pool.groups)
    classes = int(pool.labels.max(initial=0)) + 1
    cells, counts = np.unique(of_sample * classes + pool.labels, return_counts=True)
    # The last cell of each unit in this order is its most frequent label.
    order = np.lexsort((-cells, counts, cells // classes))
    last = np.flatnonzero(np.diff(cells[order] // classes, append=-1))
    return Units(cells[order][last] % classes, np.bincount(of_sample), of_sample)


def shuffled_by_label(labels: Indices, rng: np.random.Generator) -> list[Indices]:
    """Return the positions of each label that occurs, in random order.

    Parameters
    ----------
    labels
        ``(u,)`` labels, say of units.
    rng
        Source of the order.

    Returns
    -------
    list of NDArray
        Positions, one array for each distinct label, by ascending label.
    """
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def check_num_clients(num_clients: int | None, total: int, least: int = 1) -> int:
    """Return the number of clients, checked.

    Raises
    ------
    ConfigError
        If it is missing, not positive, or there are too few samples for it.
    """
    if num_clients is None:
        msg = "this partitioner makes clients: give their number by clients=N"
        raise ConfigError(msg)
    if num_clients < 1 or num_clients * max(1, least) > total:
        msg = (
            f"clients={num_clients} with at least {max(1, least)} samples each cannot "
            f"be made of {total} samples; lower clients or min_samples"
        )
        raise ConfigError(msg)
    return num_clients


def check_positive(key: str, value: float) -> None:
    """Check an option that must be positive and finite.

    Raises
    ------
    ConfigError
        If it is not.
    """
    if not value > 0 or not math.isfinite(value):
        msg = f"partitioner.{key} must be positive and finite, got {value}"
        raise ConfigError(msg)


def cut_by_shares(sizes: Indices, shares: NDArray[np.floating[Any]]) -> Indices:
    """Cut a sequence of units into consecutive pieces by shares of the samples.

    Parameters
    ----------
    sizes
        ``(u,)`` samples in each unit.
    shares
        ``(m,)`` non-negative shares, of any positive sum.

    Returns
    -------
    NDArray
        ``(u,)`` receiver of each unit: the one whose share contains its middle.
    """
    ends = np.cumsum(shares)
    middles = sizes / 2
    np.subtract(np.cumsum(sizes), middles, out=middles)
    middles *= ends[-1] / max(1, sizes.sum())
    receivers: Indices = np.searchsorted(ends[:-1], middles, side="right")
    return receivers


def gather(owner_of_unit: Indices, made: Units, m: int, moved: int = 0) -> Parts:
    """Return the sorted samples of each client from the owner of each unit."""
    # Integers of 16 bits are sorted by their digits, in a tenth of the time.
    kind = np.uint16 if m <= 2**16 else np.int64
    owner = owner_of_unit.astype(kind)[made.of_sample]
    order = np.argsort(owner, kind="stable")
    stops = np.cumsum(np.bincount(owner, minlength=m))
    return Parts(np.split(order, stops[:-1]), moved)


def split_by_size(
    pool: Pool,
    shares: NDArray[np.floating[Any]],
    rng: np.random.Generator,
    least: int,
) -> Parts:
    """Assign samples at random, whatever their labels, by the clients' shares.

    Parameters
    ----------
    pool
        The samples.
    shares
        ``(m,)`` non-negative shares, of any positive sum.
    rng
        Source of the assignment.
    least
        Minimum number of samples of a client.
    """
    made = units(pool)
    m = len(shares)
    order = rng.permutation(len(made.sizes))
    owner = np.empty(len(order), np.int64)
    owner[order] = cut_by_shares(made.sizes[order], shares)
    moved = repair(owner, made.sizes, m, least, rng)
    return gather(owner, made, m, moved)


def split_by_rank(
    pool: Pool,
    num_clients: int | None,
    rng: np.random.Generator,
    min_samples: int,
    share_of: Callable[[Indices], NDArray[np.floating[Any]]],
) -> Parts:
    """Assign samples at random, whatever their labels, by shares that ranks have.

    Ranks are drawn, so that a client's number is independent of its size.

    Parameters
    ----------
    pool, num_clients, rng
        The arguments of a partitioner.
    min_samples
        Minimum number of samples of a client; the largest give up the missing ones.
    share_of
        From ranks (m,), which count from 0, to non-negative shares, of any positive
        sum.

    Raises
    ------
    ConfigError
        If there are too few samples.
    """
    least = max(1, min_samples)
    m = check_num_clients(num_clients, len(pool.labels), least)
    return split_by_size(pool, share_of(rng.permutation(m)), rng, least)


def repair(
    owner: Indices, sizes: Indices, m: int, least: int, rng: np.random.Generator
) -> int:
    """Move units, in place, until every client holds at least `least` samples.

    Fills the clients below the minimum in turn; each unit comes, at random, from the
    client that is largest then and stays above the minimum, so that shares change
    little. Looks at every unit at most once.

    Returns
    -------
    int
        Number of samples moved.

    Raises
    ------
    ConfigError
        If groups are too large to reach the minimum.
    """
    held = np.bincount(owner, weights=sizes, minlength=m).astype(np.int64).tolist()
    poor = [client for client in range(m) if held[client] < least]
    if not poor:
        return 0
    shuffled = rng.permutation(len(owner))
    order = shuffled[np.argsort(owner[shuffled], kind="stable")]
    starts = np.searchsorted(owner[order], np.arange(m + 1))
    nexts, stops = starts[:-1].tolist(), starts[1:].tolist()
    donors = [(-held[client], client) for client in range(m) if held[client] > least]
    heapq.heapify(donors)
    moved = 0
    for client in poor:
        while held[client] < least:
            if not donors:
                msg = (
                    f"cannot give every client {least} samples without breaking "
                    "groups; lower clients or min_samples"
                )
                raise ConfigError(msg)
            _, donor = donors[0]
            unit = order[nexts[donor]]
            size = int(sizes[unit])
            nexts[donor] += 1
            if held[donor] - size >= least:
                owner[unit] = client
                held[donor] -= size
                held[client] += size
                moved += size
            if nexts[donor] < stops[donor] and held[donor] > least:
                heapq.heapreplace(donors, (-held[donor], donor))
            else:
                heapq.heappop(donors)
    return moved
