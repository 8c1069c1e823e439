"""Work of clients that the data do not have."""

import numpy as np
import pytest

from fedapm_mpi.studies.scaling import schedule
from fedapm_mpi.studies.scaling.schedule import layout, rank_load
from tests.support.round_times import workload


def test_what_stands_in_for_many_clients_is_close(monkeypatch):
    many = workload(6000)
    nodes = layout(40, 8)
    chosen = many.participants(0)
    seconds = many.training_costs[chosen].astype(float)
    home_of = schedule.home_assignment(many, 40)
    exact = rank_load(many, chosen, seconds, home_of, nodes)
    monkeypatch.setattr(schedule, "EXACT_ASSIGNMENT_LIMIT", 10)
    bound = rank_load(many, chosen, seconds, home_of, nodes)
    assert 0.98 * exact.slowest < bound.slowest <= exact.slowest
    assert bound.max_clients == pytest.approx(exact.max_clients, rel=0.05)
    sums = np.bincount(schedule.home_assignment(many, 40), many.train_samples)[1:]
    assert sums.max() < 1.01 * sums.mean()


def test_clients_that_the_data_have_not_are_those_there_are_again():
    more = workload(4).resized(10)
    assert more.clients == 10
    assert (
        more.training_costs.tolist()
        == np.tile(workload(4).training_costs, 3)[:10].tolist()
    )
