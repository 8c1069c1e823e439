"""Natural clients of the data set, merged on request."""

import heapq
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.distinct import distinct
from data_prep.partitioners.base import Parts, Pool, Units, gather, partitioners
from fedapm_mpi.errors import ConfigError


@partitioners.register("natural")
def natural(
    pool: Pool,
    num_clients: int | None,
    rng: np.random.Generator,
    *,
    min_samples: int = 1,
    merge: Literal["in-turn", "balanced"] = "in-turn",
) -> Parts:
    """Make a client of each person, speaker or device that the data set names.

    With `num_clients`, natural client k in sorted order joins client k modulo
    `num_clients`, as the 20 users of KU-HAR in the FedAPM paper consist of several
    subjects each. Merged in balance, the largest natural client that is left joins the
    smallest client in turn, so that sizes are about equal. Then the two smallest
    clients are merged, ties by order, until each has `min_samples`. Nothing is random.

    Parameters
    ----------
    pool
        The samples; must have ids.
    num_clients
        Number of clients after the merge; None for one for each natural client.
    rng
        Not used.
    min_samples
        Minimum number of samples of a client.
    merge
        Whether natural clients join `num_clients` clients ``in-turn`` or ``balanced``.

    Raises
    ------
    ConfigError
        If the data names no clients, fewer than `num_clients`, or too few samples, or
        `merge` has no effect.
    """
    if pool.ids is None:
        msg = "the source names no clients; choose a partitioner that makes them"
        raise ConfigError(msg)
    names, client = distinct(pool.ids)
    if num_clients is not None:
        if not 1 <= num_clients <= len(names):
            msg = (
                f"clients={num_clients}, but the source has {len(names)} natural "
                "clients: they can be merged, not split"
            )
            raise ConfigError(msg)
        joins = np.arange(len(names)) % num_clients
        if merge == "balanced":
            joins = _balanced(np.bincount(client), num_clients)
        client = joins[client]
    elif merge == "balanced":
        msg = "partitioner.merge=balanced needs a number of clients to merge into"
        raise ConfigError(msg + ": give it by clients=N, or leave merge out")
    if len(client) < min_samples:
        msg = f"min_samples={min_samples} is more than all {len(client)} samples"
        raise ConfigError(msg)
    sizes = np.bincount(client)
    merged = _merge_small(sizes, min_samples)
    m = int(merged.max()) + 1
    if num_clients is not None and m < num_clients:
        msg = (
            f"merged into {num_clients} clients, the smallest has {sizes.min()} "
            f"samples, fewer than min_samples={min_samples}; lower one of the two"
        )
        raise ConfigError(msg)
    return gather(merged, Units(merged, sizes, client), m)


def _balanced(sizes: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Return which of `number` clients each joins, numbered by their first members."""
    queue = [(0, client) for client in range(number)]
    joins = np.empty(len(sizes), np.int64)
    for natural_client in np.argsort(-sizes, kind="stable").tolist():
        held, client = queue[0]
        joins[natural_client] = client
        heapq.heapreplace(queue, (held + int(sizes[natural_client]), client))
    _, first, joined = np.unique(joins, return_index=True, return_inverse=True)
    place = np.empty(number, np.int64)
    place[np.argsort(first)] = np.arange(number)
    return place[joined]


def _merge_small(sizes: NDArray[np.int64], least: int) -> NDArray[np.int64]:
    """Return the new number of each client, in order of their first members."""
    queue = [(size, client) for client, size in enumerate(sizes.tolist())]
    heapq.heapify(queue)
    parent = np.arange(len(sizes))
    while len(queue) > 1 and queue[0][0] < least:
        small, first = heapq.heappop(queue)
        size, second = queue[0]
        keep, drop = min(first, second), max(first, second)
        parent[drop] = keep
        heapq.heapreplace(queue, (small + size, keep))
    # A parent precedes its children, so it is final when they read it.
    for client in range(len(parent)):
        parent[client] = parent[parent[client]]
    return np.unique(parent, return_inverse=True)[1]
