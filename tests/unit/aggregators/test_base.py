"""What every aggregator sums, and a sum of nothing."""

import numpy as np
import pytest

from fedapm_mpi.aggregators import AggregationContext, aggregators
from fedapm_mpi.comm import Serial


def largest(increments) -> float:
    return float(max(np.abs(x).max() for x in increments))


def context(increments, top, length=None) -> AggregationContext:
    clients = range(len(increments))
    return AggregationContext(
        round_index=0,
        participants=np.array(clients, dtype=np.int64),
        clients=clients,
        seed=0,
        length=len(increments[0]) if length is None else length,
        largest=top,
    )


@pytest.mark.parametrize("name", aggregators.names())
def test_every_reduction_sums(name):
    rng = np.random.default_rng(0)
    increments = [rng.normal(size=50) for _ in range(6)]
    reduction = aggregators.get(name)()
    total = reduction.sum(
        Serial(), increments, context(increments, largest(increments))
    )
    np.testing.assert_allclose(total, np.sum(increments, axis=0), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", aggregators.names())
def test_no_participant_is_a_sum_of_zero(name):
    total = aggregators.get(name)().sum(Serial(), [], context([], 0.0, length=4))
    assert total.tolist() == [0, 0, 0, 0]
