"""Who works for how long in rounds to come: the run's own draws; pure functions.

Participants are those whom the run will draw, from its seed; they come to ranks as they
do in a run, where the free rank of a node takes the largest that is left. For more
participants than can be dealt one by one in a moment, a bound stands in, to which the
dealing then comes close: the mean of a node's ranks, or its largest client.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.placements.cost import cost as by_cost
from fedapm_mpi.utils.rng import generator

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EXACT_ASSIGNMENT_LIMIT = 200_000
"""Clients at most that are dealt, or placed, one by one."""

TICK_SECONDS = 1e-9
"""Seconds of a unit of work, where work must be a whole number."""


@dataclass(frozen=True)
class Workload:
    """What is known of an experiment's clients before it runs."""

    trained: Ints
    """(m,) training samples, by which clients are placed."""

    costs: Ints
    """(m,) samples passed in a client's local work of a round."""

    tested: Ints
    """(m,) work of evaluating a client, in samples passed."""

    choose: Callable[[int, np.random.Generator], Ints]
    """Participants of a round, see `Participation.choose`."""

    place: Callable[[Ints, int], Ints]
    """See `Placement`."""

    places_by_cost: bool
    seed: int
    together: bool
    """Whether participants go to any rank of their node."""

    tests_all: bool
    """Whether all clients are evaluated, or a round's participants."""

    @property
    def clients(self) -> int:
        """All clients, m."""
        return len(self.costs)

    def with_clients(self, count: int) -> "Workload":
        """Return one with so many clients: the first, or all again and again."""
        return replace(
            self,
            trained=np.resize(self.trained, count),
            costs=np.resize(self.costs, count),
            tested=np.resize(self.tested, count),
        )

    def participants(self, t: int) -> Ints:
        """Return who takes part in round t, from 0."""
        return self.choose(self.clients, generator(self.seed, "participants", t))


class Load(NamedTuple):
    """The local work of a round, as it falls to ranks."""

    slowest: float
    """Seconds of the rank that works longest."""

    mean: float
    """Mean seconds of all ranks that train."""

    most: float
    """Clients of the rank that has most of them."""


def layout(client_ranks: int, per_node: int) -> Ints:
    """Return each rank's node, (client_ranks + 1,); -1 for the server, rank 0."""
    nodes = np.arange(client_ranks + 1, dtype=np.int64) // per_node
    nodes[0] = -1
    return nodes


def home_assignment(workload: Workload, client_ranks: int) -> Ints:
    """Return the rank on which each client lives, (m,)."""
    trained = workload.trained
    if workload.places_by_cost and len(trained) > EXACT_ASSIGNMENT_LIMIT:
        placed = _serpentine_order(trained, client_ranks)
    else:
        placed = np.asarray(workload.place(trained, client_ranks), dtype=np.int64)
    return placed + 1


def load(
    workload: Workload,
    clients: Ints,
    seconds: Floats,
    host_of: Ints,
    nodes: Ints,
) -> Load:
    """Return how the work of a round's clients falls to ranks.

    Parameters
    ----------
    workload
        Says whether ranks of a node share it.
    clients : (k,)
        Who is worked on.
    seconds : (k,)
        Work of each of them.
    host_of : (m,)
        The rank on which each client lives.
    nodes : (size,)
        The node of each rank; -1 for the server.
    """
    size = len(nodes)
    mean = float(seconds.sum()) / (size - 1)
    if not len(clients):
        return Load(0.0, 0.0, 0.0)
    if not workload.together:
        ranks = host_of[clients]
        taken = np.bincount(ranks, seconds, minlength=size)
        return Load(float(taken.max()), mean, float(np.bincount(ranks).max()))
    node_of = nodes[host_of[clients]]
    if len(clients) <= EXACT_ASSIGNMENT_LIMIT:
        found = _assigned(seconds, node_of, nodes)
    else:
        found = _lower_bound(seconds, node_of, nodes)
    return Load(max(found[0], mean), mean, found[1])


def _assigned(seconds: Floats, node_of: Ints, nodes: Ints) -> tuple[float, float]:
    """Deal clients one by one; return the longest time and the most clients."""
    order = np.argsort(node_of, kind="stable")
    labels, starts = np.unique(node_of[order], return_index=True)
    places, ranks = np.unique(nodes[1:], return_counts=True)
    held = dict(zip(places.tolist(), ranks.tolist(), strict=True))
    slowest = most = 0.0
    groups = np.split(order, starts[1:])
    for label, group in zip(labels.tolist(), groups, strict=True):
        ticks = np.rint(seconds[group] / TICK_SECONDS).astype(np.int64)
        taken = by_cost(ticks, held[label])
        slowest = max(slowest, float(np.bincount(taken, seconds[group]).max()))
        most = max(most, float(np.bincount(taken).max()))
    return slowest, most


def _lower_bound(seconds: Floats, node_of: Ints, nodes: Ints) -> tuple[float, float]:
    """Return the least that any dealing can reach, and the mean number of clients."""
    places, ranks = np.unique(nodes[1:], return_counts=True)
    at = np.searchsorted(places, node_of)
    sums = np.bincount(at, seconds, minlength=len(places)) / ranks
    counts = np.bincount(at, minlength=len(places)) / ranks
    return max(float(sums.max()), float(seconds.max())), float(counts.max())


def _serpentine_order(costs: Ints, hosts: int) -> Ints:
    """Deal clients, the largest first, to the hosts forth and back again."""
    turn, place = np.divmod(np.arange(len(costs)), hosts)
    placed = np.empty(len(costs), dtype=np.int64)
    order = np.argsort(-costs, kind="stable")
    placed[order] = np.where(turn % 2 == 0, place, hosts - 1 - place)
    return placed


def max_sampled_rounds(rounds: int, clients: int) -> int:
    """Return how many of so many rounds to draw, that it take no more than seconds."""
    return max(1, min(rounds, 20, max(3, 2_000_000 // max(1, clients))))


def evaluated(workload: Workload, participants: Sequence[Ints]) -> list[Ints]:
    """Return whom each evaluation looks at, given participants of its round."""
    if workload.tests_all:
        return [np.arange(workload.clients)] * len(participants)
    return list(participants)
