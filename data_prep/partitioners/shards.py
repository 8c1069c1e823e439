"""Label skew by number: every client holds q labels."""

import heapq

import numpy as np
from numpy.typing import NDArray

from data_prep.partitioners.base import (
    Parts,
    Pool,
    check_num_clients,
    gather,
    partitioners,
    shuffled_by_label,
    units,
)
from fedapm_mpi.errors import ConfigError


@partitioners.register("shards")
def shards(
    pool: Pool, num_clients: int | None, rng: np.random.Generator, *, labels: int = 2
) -> Parts:
    """Give every client exactly q labels, and cut each label into equal pieces.

    Larger classes are cut into more pieces, so that clients have similar sizes. All
    samples are used.

    Parameters
    ----------
    pool
        The samples.
    num_clients
        Number of clients.
    rng
        Source of the assignment.
    labels
        Labels of each client, q.

    Raises
    ------
    ConfigError
        If q is larger than the number of labels, or there are more labels than
        clients × q, or too few samples.

    References
    ----------
    McMahan et al. (2017), Communication-efficient learning of deep networks from
    decentralized data, arXiv:1602.05629, section 3 (there with equal pieces, q = 2).
    """
    made = units(pool)
    m = check_num_clients(num_clients, len(made.sizes))
    present, inverse = np.unique(made.labels, return_inverse=True)
    sizes = np.bincount(inverse)
    if not 1 <= labels <= len(present) or m * labels < len(present):
        msg = (
            f"partitioner.labels={labels} does not fit {m} clients and "
            f"{len(present)} labels: it must be from {-(-len(present) // m)} "
            f"to {len(present)}"
        )
        raise ConfigError(msg)
    pieces = _pieces(sizes, m, m * labels)
    holders = _holders(pieces, m, labels, rng)
    owner = np.empty(len(inverse), np.int64)
    for members, of_label in zip(shuffled_by_label(inverse, rng), holders, strict=True):
        pieces_of = np.arange(len(members)) * len(of_label) // len(members)
        owner[members] = of_label[pieces_of]
    return gather(owner, made, m)


def _pieces(sizes: NDArray[np.int64], m: int, total: int) -> list[int]:
    """Return into how many pieces to cut each class: `total` in all, 1 to m each.

    The next piece always goes to the class whose pieces are largest.
    """
    most = np.minimum(sizes, m).tolist()
    pieces = [1] * len(sizes)
    queue = [(-size, c) for c, size in enumerate(sizes.tolist()) if most[c] > 1]
    heapq.heapify(queue)
    for _ in range(total - len(sizes)):
        if not queue:
            msg = (
                f"{total} pieces (clients times partitioner.labels) cannot be cut from "
                "classes this small; lower clients or partitioner.labels"
            )
            raise ConfigError(msg)
        _, c = queue[0]
        pieces[c] += 1
        if pieces[c] < most[c]:
            heapq.heapreplace(queue, (-sizes[c] / pieces[c], c))
        else:
            heapq.heappop(queue)
    return pieces


def _holders(
    pieces: list[int], m: int, labels: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Return the clients that hold each class, drawn so that each holds q classes.

    Clients in random order take the classes with most pieces left, ties at random.
    This never gets stuck, as no class has more pieces left than there are clients.
    """
    left = np.array(pieces)
    holders: list[list[int]] = [[] for _ in pieces]
    for client in rng.permutation(m):
        keys = left + rng.random(len(left))
        chosen = np.argpartition(-keys, labels - 1)[:labels]
        left[chosen] -= 1
        for c in chosen:
            holders[c].append(int(client))
    return [np.array(clients, np.int64) for clients in holders]
