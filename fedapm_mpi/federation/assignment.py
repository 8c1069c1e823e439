"""Assign clients to ranks in a round; no result depends on it.

A client lives on one node of the cluster, chosen by the placement before the first
round. Ranks of a node share the states and samples of its clients, so that each round's
participants go to the next free rank, the largest first. `assign` predicts the
resulting assignment.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.optim.batching import Batching
from fedapm_mpi.optim.local import LocalBudget
from fedapm_mpi.placements.cost import cost as by_cost


class Assignment(NamedTuple):
    """Clients and the rank that works on each."""

    clients: NDArray[np.int64]
    """(k,), ascending."""

    ranks: NDArray[np.int64]
    """(k,)."""

    def clients_of(self, rank: int) -> list[int]:
        """Return a rank's clients, in their order."""
        found: list[int] = self.clients[self.ranks == rank].tolist()
        return found

    def counts(self, size: int) -> list[int]:
        """Return how many clients each of `size` ranks has."""
        found: list[int] = np.bincount(self.ranks, minlength=size).tolist()
        return found

    def loads(self, costs: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """Return the work of each of `size` ranks, given each client's cost, (m,)."""
        loads = np.zeros(size, dtype=np.int64)
        np.add.at(loads, self.ranks, costs[self.clients])
        return loads

    def client_order(self) -> NDArray[np.intp]:
        """Return what reorders rows gathered rank by rank into ascending clients."""
        return np.argsort(np.argsort(self.ranks, kind="stable"), kind="stable")


def assign(
    clients: NDArray[np.int64],
    costs: NDArray[np.int64],
    home_ranks: NDArray[np.int64],
    nodes: Sequence[int],
) -> Assignment:
    """Assign clients to the ranks of the nodes on which they live, by cost.

    Parameters
    ----------
    clients : (k,)
        The clients to assign, ascending.
    costs : (m,)
        Expected work of each client, in any unit.
    home_ranks : (m,)
        The rank on which each client lives.
    nodes : (size,)
        The node of each rank; -1 for one that works on no client.
    """
    node_of = np.asarray(nodes)
    homes = node_of[home_ranks[clients]]
    ranks = np.empty(len(clients), dtype=np.int64)
    for node in np.unique(homes):
        here, own = np.flatnonzero(homes == node), np.flatnonzero(node_of == node)
        ranks[here] = own[by_cost(costs[clients[here]], len(own))]
    return Assignment(clients, ranks)


def samples_processed(
    budgets: Sequence[LocalBudget],
    batch_size: int | None,
    samples: NDArray[np.int64],
    *,
    batching: Batching | None = None,
) -> NDArray[np.int64]:
    """Return how many samples each client's local work processes, (m,), at most.

    Parameters
    ----------
    budgets
        Length of each phase.
    batch_size
        Samples in a mini-batch; 0, or `None` if unknown, for the full batch.
    samples : (m,)
        Training samples of each client.
    batching
        What becomes of an epoch's last batch.
    """
    total = np.zeros_like(samples)
    epoch = (batching or Batching()).passed(samples, batch_size or 0)
    for budget in budgets:
        if budget.steps is not None:
            total += budget.steps * np.minimum(batch_size or samples, samples)
        else:
            total += (budget.epochs or budget.max_epochs or 1) * epoch
    return total
