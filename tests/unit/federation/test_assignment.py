"""Assignment of participants to the ranks of a node."""

from itertools import product

import numpy as np
import pytest

from fedapm_mpi.algorithms import LocalBudget
from fedapm_mpi.federation.assignment import Assignment, assign, samples_processed


def whole(values):
    return np.array(values, dtype=np.int64)


def test_an_assignment_by_hand():
    found = Assignment(whole([2, 3, 5, 8]), whole([4, 1, 4, 2]))
    assert found.clients_of(4) == [2, 5]
    assert found.clients_of(0) == []
    assert found.counts(6) == [0, 1, 1, 0, 2, 0]
    costs = np.arange(10) * 10
    assert found.loads(costs, 6).tolist() == [0, 30, 80, 0, 70, 0]
    gathered = whole([3, 8, 2, 5])  # rank by rank
    assert gathered[found.client_order()].tolist() == [2, 3, 5, 8]


def test_no_client():
    empty = assign(whole([]), whole([1, 2]), whole([1, 2]), [-1, 1, 1])
    assert empty.counts(3) == [0, 0, 0]
    assert empty.client_order().tolist() == []


def test_clients_stay_on_their_node():
    rng = np.random.default_rng(0)
    nodes = [-1, 1, 1, 3, 3, 3, 6]
    host_of = rng.integers(1, 7, size=200)
    costs = rng.integers(1, 100, size=200)
    chosen = np.sort(rng.choice(200, 60, replace=False))
    found = assign(chosen, costs, host_of, nodes)
    assert (found.clients == chosen).all()
    for client, rank in zip(found.clients, found.ranks, strict=True):
        assert nodes[rank] == nodes[host_of[client]]
    loads = found.loads(costs, 7)
    assert loads.sum() == costs[chosen].sum()
    assert loads[0] == 0
    for node in (1, 3):
        own = loads[[k for k, n in enumerate(nodes) if n == node]]
        # The one that ends last began its last client when no other was done.
        assert own.max() - own.min() <= costs[chosen].max()


def test_a_node_with_one_rank_keeps_what_it_has():
    host_of = whole([1, 2, 2, 1, 2])
    found = assign(whole([0, 2, 3, 4]), whole([5, 5, 5, 5, 5]), host_of, [-1, 1, 2])
    assert found.ranks.tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_the_slowest_rank_is_near_the_best_possible(ranks):
    """Against every possible assignment; Graham's bound holds, and is far off."""
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(20):
        costs = rng.integers(10, 60, size=7)
        host_of = np.ones(7, dtype=np.int64)
        found = assign(np.arange(7), costs, host_of, [-1, *[1] * ranks])
        best = min(
            np.bincount(whole(ways), weights=costs, minlength=ranks).max()
            for ways in product(range(ranks), repeat=7)
        )
        ratios.append(found.loads(costs, ranks + 1).max() / best)
    assert max(ratios) <= 4 / 3 - 1 / (3 * ranks)
    assert np.mean(ratios) < 1.05


def test_passes_by_hand():
    samples = whole([0, 30, 100])
    phases = [
        LocalBudget(epochs=3),
        LocalBudget(xi=0.1, decay=0.5, max_epochs=2),
        LocalBudget(steps=4),
    ]
    # Epochs 3 + 2, and four batches of 40 or of all there is.
    assert samples_processed(phases, 40, samples).tolist() == [0, 150 + 120, 500 + 160]
    tuned = samples_processed([LocalBudget(epochs=10)], 40, samples)
    assert tuned.tolist() == [0, 300, 1000]
    for full_batch in (0, None):
        found = samples_processed([LocalBudget(steps=2)], full_batch, samples)
        assert found.tolist() == [0, 60, 200]
    assert samples_processed([], None, samples).tolist() == [0, 0, 0]
