"""The local work of each rank in the rounds of a run; pure functions.

The participants of a round follow from the run's seed. They are assigned to ranks as in
a run, where the free rank of a node takes the largest client that is left. With more
participants than can be assigned one by one in a moment, a lower bound stands in, which
the assignment approaches: the mean of a node's ranks, or its largest client.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.placements.cost import cost as by_cost
from fedapm_mpi.utils.rng import Purpose, generator

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EXACT_ASSIGNMENT_LIMIT = 200_000
"""Maximum number of clients that are assigned, or placed, one by one."""

TICK_SECONDS = 1e-9
"""Seconds of a unit of work, where work must be a whole number."""

MAX_SAMPLED_ROUNDS = 20
"""Maximum number of rounds whose participants are sampled for a prediction."""

MIN_SAMPLED_ROUNDS = 3
"""Minimum number of them, however many participants a round has."""

MAX_SAMPLED_CLIENTS = 2_000_000
"""Participants in all sampled rounds together, so that sampling takes seconds."""


@dataclass(frozen=True)
class Workload:
    """What is known of an experiment's clients before it runs."""

    train_samples: Ints
    """(m,) training samples, by which clients are placed."""

    training_costs: Ints
    """(m,) samples processed in a client's local work of a round."""

    evaluation_costs: Ints
    """(m,) cost of evaluating a client, in samples processed."""

    choose: Callable[[int, np.random.Generator], Ints]
    """Participants of a round, see `Participation.choose`."""

    place: Callable[[Ints, int], Ints]
    """See `Placement`."""

    places_by_cost: bool
    seed: int
    dynamic: bool
    """Whether a participant may go to any rank of its node."""

    evaluates_all: bool
    """Whether all clients are evaluated, or a round's participants."""

    @property
    def clients(self) -> int:
        """Number of clients, m."""
        return len(self.training_costs)

    def resized(self, count: int) -> "Workload":
        """Return a workload of `count` clients: the first ones, or all repeated."""
        return replace(
            self,
            train_samples=np.resize(self.train_samples, count),
            training_costs=np.resize(self.training_costs, count),
            evaluation_costs=np.resize(self.evaluation_costs, count),
        )

    def participants(self, t: int) -> Ints:
        """Return the participants of round t, from 0."""
        return self.choose(self.clients, generator(self.seed, Purpose.PARTICIPANTS, t))


class RankLoad(NamedTuple):
    """The local work of a round, as it falls to ranks."""

    slowest: float
    """Seconds of the rank that works longest."""

    mean: float
    """Mean seconds of the client ranks."""

    max_clients: float
    """Clients of the rank that has most of them."""


def layout(client_ranks: int, per_node: int) -> Ints:
    """Return each rank's node, (client_ranks + 1,); -1 for the server, rank 0."""
    nodes = np.arange(client_ranks + 1, dtype=np.int64) // per_node
    nodes[0] = -1
    return nodes


def home_assignment(workload: Workload, client_ranks: int) -> Ints:
    """Return the home rank of each client, (m,)."""
    samples = workload.train_samples
    if workload.places_by_cost and len(samples) > EXACT_ASSIGNMENT_LIMIT:
        placed = _serpentine_order(samples, client_ranks)
    else:
        placed = np.asarray(workload.place(samples, client_ranks), dtype=np.int64)
    return placed + 1


def rank_load(
    workload: Workload,
    clients: Ints,
    seconds: Floats,
    home_of: Ints,
    nodes: Ints,
) -> RankLoad:
    """Return how the work of a round's clients falls to ranks.

    Parameters
    ----------
    workload
        States whether ranks of a node share the work.
    clients : (k,)
        Clients that are trained or evaluated.
    seconds : (k,)
        Work of each of them.
    home_of : (m,)
        The home rank of each client.
    nodes : (size,)
        The node of each rank; -1 for the server.
    """
    size = len(nodes)
    mean = float(seconds.sum()) / (size - 1)
    if not len(clients):
        return RankLoad(0.0, 0.0, 0.0)
    if not workload.dynamic:
        ranks = home_of[clients]
        taken = np.bincount(ranks, seconds, minlength=size)
        return RankLoad(float(taken.max()), mean, float(np.bincount(ranks).max()))
    node_of = nodes[home_of[clients]]
    if len(clients) <= EXACT_ASSIGNMENT_LIMIT:
        found = _assigned(seconds, node_of, nodes)
    else:
        found = _lower_bound(seconds, node_of, nodes)
    return RankLoad(max(found[0], mean), mean, found[1])


def _assigned(seconds: Floats, node_of: Ints, nodes: Ints) -> tuple[float, float]:
    """Assign clients one by one; return the longest time and the most clients."""
    order = np.argsort(node_of, kind="stable")
    labels, starts = np.unique(node_of[order], return_index=True)
    nodes_used, ranks = np.unique(nodes[1:], return_counts=True)
    ranks_of = dict(zip(nodes_used.tolist(), ranks.tolist(), strict=True))
    slowest = most = 0.0
    groups = np.split(order, starts[1:])
    for label, group in zip(labels.tolist(), groups, strict=True):
        ticks = np.rint(seconds[group] / TICK_SECONDS).astype(np.int64)
        taken = by_cost(ticks, ranks_of[label])
        slowest = max(slowest, float(np.bincount(taken, seconds[group]).max()))
        most = max(most, float(np.bincount(taken).max()))
    return slowest, most


def _lower_bound(seconds: Floats, node_of: Ints, nodes: Ints) -> tuple[float, float]:
    """Return a bound on any assignment's time, and the mean number of clients."""
    labels, ranks = np.unique(nodes[1:], return_counts=True)
    at = np.searchsorted(labels, node_of)
    sums = np.bincount(at, seconds, minlength=len(labels)) / ranks
    counts = np.bincount(at, minlength=len(labels)) / ranks
    return max(float(sums.max()), float(seconds.max())), float(counts.max())


def _serpentine_order(costs: Ints, ranks: int) -> Ints:
    """Place clients, the largest first, on the ranks in order and back again."""
    turn, position = np.divmod(np.arange(len(costs)), ranks)
    placed = np.empty(len(costs), dtype=np.int64)
    order = np.argsort(-costs, kind="stable")
    placed[order] = np.where(turn % 2 == 0, position, ranks - 1 - position)
    return placed


def max_sampled_rounds(rounds: int, clients: int) -> int:
    """Return how many of `rounds` rounds with `clients` participants to sample."""
    affordable = max(MIN_SAMPLED_ROUNDS, MAX_SAMPLED_CLIENTS // max(1, clients))
    return max(1, min(rounds, MAX_SAMPLED_ROUNDS, affordable))


def first_rounds(workload: Workload, count_of: Callable[[int], int]) -> list[Ints]:
    """Return the participants of the first rounds.

    Parameters
    ----------
    workload
        The clients, and how participants are chosen.
    count_of
        Number of rounds, as a function of the number of participants of the first.
    """
    first = workload.participants(0)
    count = count_of(len(first))
    return [first, *(workload.participants(t) for t in range(1, count))]


def evaluated_clients(workload: Workload, participants: Sequence[Ints]) -> list[Ints]:
    """Return the clients of each evaluation, given participants of its round."""
    if workload.evaluates_all:
        return [np.arange(workload.clients)] * len(participants)
    return list(participants)
