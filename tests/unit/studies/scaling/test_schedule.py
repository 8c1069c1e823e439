"""Who takes part and where, drawn as a run draws it."""

import numpy as np
import pytest

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.federation.assignment import assign
from fedapm_mpi.federation.federation import place
from fedapm_mpi.studies.scaling import schedule
from fedapm_mpi.studies.scaling.schedule import layout, rank_load
from fedapm_mpi.studies.scaling.workload import workload_of
from fedapm_mpi.training.context import open_context
from tests.support.processes.cli_runs import experiment
from tests.support.round_times import workload


def test_draws_are_those_of_the_run(toy):
    """Participants, homes and assignment of a real session on ranks of two nodes."""
    config = validate(experiment(toy["features"]), "test")
    session = open_context(config, Serial())
    found = workload_of(config)
    nodes = np.array([-1, 0, 0, 3, 3])
    home_of = place(config.placement, session.federation.manifest, 5)
    assert (schedule.home_assignment(found, 4) == home_of).all()
    for t in range(6):
        chosen = found.participants(t)
        assert (chosen == session.federation.participants(t)).all()
        costs = session.federation.training_costs
        expected = assign(chosen, costs, home_of, nodes).loads(costs, 5)
        got = rank_load(found, chosen, costs[chosen].astype(float), home_of, nodes)
        assert got.slowest == expected.max()
        assert got.mean == pytest.approx(expected.sum() / 4)
    assert found.training_costs.tolist() == session.federation.training_costs.tolist()
    assert (
        found.evaluation_costs.tolist() == session.federation.evaluation_costs.tolist()
    )


def test_participants_that_stay_where_they_live(toy):
    config = validate(experiment(toy["features"], scheduling="static"), "test")
    found = workload_of(config)
    assert not found.dynamic
    home_of = schedule.home_assignment(found, 3)
    chosen = found.participants(0)
    seconds = found.training_costs[chosen].astype(float)
    got = rank_load(found, chosen, seconds, home_of, layout(3, 4))
    of_rank = [seconds[home_of[chosen] == rank].sum() for rank in (1, 2, 3)]
    assert got.slowest == max(of_rank)
    assert got.max_clients == max((home_of[chosen] == rank).sum() for rank in (1, 2, 3))


def test_no_client_takes_part():
    empty = np.zeros(0, np.int64)
    got = rank_load(workload(), empty, np.zeros(0), np.ones(60, np.int64), layout(3, 4))
    assert got == (0.0, 0.0, 0.0)
