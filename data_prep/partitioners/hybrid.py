"""Two ways of giving samples to clients, one for each share of the data."""

from collections.abc import Sequence

import numpy as np

from data_prep.partitioners.base import (
    Indices,
    Parts,
    Pool,
    Within,
    may_overlap,
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
    """Give a random share of the samples by one partitioner, the rest by another.

    So ``first: iid, second: shards, share: 0.1`` makes clients that are alike in a
    tenth of their data (the similarity of the SCAFFOLD paper).

    Parameters
    ----------
    pool
        The samples.
    num_clients
        Number of clients, of both.
    rng
        Decides which samples are given how, and by both.
    first, second
        Partitioners, each a name, or a name and options.
    share
        Share of the samples that goes by the first, 0 to 1, both excluded.

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
    givers = (("first", first, of_first), ("second", second, ~of_first))
    halves = [
        _give(key, part, np.flatnonzero(own), pool, num_clients, rng)
        for key, part, own in givers
    ]
    if len(halves[0]) != len(halves[1]):
        msg = (
            f"partitioner.first makes {len(halves[0])} clients, partitioner.second "
            f"{len(halves[1])}: they must agree"
        )
        raise ConfigError(msg)
    both = [np.sort(np.concatenate(own)) for own in zip(*halves, strict=True)]
    return Parts(both, sum(getattr(half, "moved", 0) for half in halves))


def _give(
    key: str,
    part: Within,
    rows: Indices,
    pool: Pool,
    num_clients: int | None,
    rng: np.random.Generator,
) -> Sequence[Indices]:
    """Return the rows of each client among `rows`."""
    options = dict(part)
    ids = None if pool.ids is None else pool.ids[rows]
    groups = None if pool.groups is None else pool.groups[rows]
    own = Pool(pool.labels[rows], ids, groups)
    give = partitioners.get(options.pop("name"))
    try:
        parts = give(own, num_clients, rng, **options)
    except ConfigError as error:
        msg = f"partitioner.{key}: {error}"
        raise ConfigError(msg) from error
    if may_overlap(parts):
        msg = f"partitioner.{key} lets clients overlap, which hybrid can't say of some"
        raise ConfigError(msg)
    return Parts([rows[mine] for mine in parts], getattr(parts, "moved", 0))
