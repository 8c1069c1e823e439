"""Two partitioners, each for a share of the samples."""

from collections.abc import Sequence

import numpy as np

from data_prep.partitioners.base import (
    Indices,
    Parts,
    Pool,
    Within,
    may_overlap,
    num_moved,
    partitioners,
    units,
)
from fedapm_mpi.errors import ConfigError


@partitioners.register("hybrid")
def hybrid(
    pool: Pool,
    num_clients: int | None,
    rng: np.random.Generator,
    *,
    first: Within,
    second: Within,
    share: float = 0.5,
) -> Parts:
    """Assign a random share of the samples by one partitioner, the rest by another.

    So ``first: iid, second: shards, share: 0.1`` makes clients that are alike in a
    tenth of their data (the similarity of the SCAFFOLD paper).

    Parameters
    ----------
    pool
        The samples.
    num_clients
        Number of clients, of both.
    rng
        Source of the share of each partitioner, and of both.
    first, second
        Partitioners, each a name, or a name and options.
    share
        Share of the samples that the first assigns, between 0 and 1.

    Raises
    ------
    ConfigError
        If the share is not between 0 and 1, one of the two does not fit its samples or
        lets clients overlap, or they make different numbers of clients.

    References
    ----------
    Karimireddy et al. (2020), SCAFFOLD, arXiv:1910.06378, section 7 (iid and shards).
    """
    if not 0 < share < 1:
        msg = f"partitioner.share must be above 0 and below 1, got {share}"
        raise ConfigError(msg)
    made = units(pool)
    order = rng.permutation(len(made.sizes))
    middles = np.cumsum(made.sizes[order]) - made.sizes[order] / 2
    chosen = np.empty(len(order), bool)
    chosen[order] = middles < share * made.sizes.sum()
    of_first = chosen[made.of_sample]
    rows = np.flatnonzero(of_first), np.flatnonzero(~of_first)
    halves = [
        _assign("first", first, rows[0], pool, num_clients, rng),
        _assign("second", second, rows[1], pool, num_clients, rng),
    ]
    if len(halves[0]) != len(halves[1]):
        msg = (
            f"partitioner.first makes {len(halves[0])} clients, partitioner.second "
            f"{len(halves[1])}: they must agree"
        )
        raise ConfigError(msg)
    both = [np.sort(np.concatenate(pair)) for pair in zip(*halves, strict=True)]
    return Parts(both, sum(map(num_moved, halves)))


def _assign(
    key: str,
    within: Within,
    rows: Indices,
    pool: Pool,
    num_clients: int | None,
    rng: np.random.Generator,
) -> Sequence[Indices]:
    """Return the rows of each client among `rows`."""
    options = dict(within)
    ids = None if pool.ids is None else pool.ids[rows]
    groups = None if pool.groups is None else pool.groups[rows]
    values = None if pool.values is None else pool.values[rows]
    selected = Pool(pool.labels[rows], ids, groups, values)
    partition = partitioners.get(options.pop("name"))
    try:
        parts = partition(selected, num_clients, rng, **options)
    except ConfigError as error:
        msg = f"partitioner.{key}: {error}"
        raise ConfigError(msg) from error
    if may_overlap(parts):
        msg = (
            f"partitioner.{key} makes overlapping clients, which hybrid does not "
            "support; choose another"
        )
        raise ConfigError(msg)
    return Parts([rows[mine] for mine in parts], num_moved(parts))
