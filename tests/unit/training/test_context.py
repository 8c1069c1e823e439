"""Who takes which participant, and in which order."""

import dataclasses

import numpy as np
import pytest

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.storage.tensor_store import Storage
from fedapm_mpi.training.context import open_context
from tests.support.processes.cli_runs import experiment


def opened(data, **changes):
    return open_context(validate(experiment(data, **changes), "test"), Serial())


class Untold:
    """A reduction of somebody's own that does not say whether order matters."""

    bytes_per_element = 8


@pytest.mark.parametrize(
    ("changes", "dealt"),
    [
        ({}, True),
        ({"scheduling": "static"}, False),
        ({"aggregator": {"name": "float32"}}, False),
    ],
)
def test_only_sums_in_any_order_let_participants_move(toy, changes, dealt):
    session = opened(toy["features"], **changes)
    assert session.dynamic == dealt
    session.aggregator = Untold()
    assert not session.dynamic


def test_the_largest_are_drawn_first(toy):
    class Turns:
        def take(self, count):
            return range(count)

    alone = opened(toy["odd"])
    shared = Storage(tickets=Turns(), nodes=(0,))
    session = dataclasses.replace(alone, storage=shared)
    counts = session.federation.manifest.counts["train"]
    chosen = np.array([0, 2, 3, 5, 6])
    drawn = list(session.draw(chosen, counts))
    assert sorted(drawn) == chosen.tolist()
    assert counts[drawn].tolist() == sorted(counts[chosen].tolist(), reverse=True)
    assert drawn != chosen.tolist()
    assert list(alone.draw(chosen, counts)) == chosen.tolist()
