"""A replay of rounds on another machine."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from fedapm_mpi.participation import participation
from fedapm_mpi.studies.scaling import schedule
from fedapm_mpi.studies.scaling.model import Model, fit_model
from fedapm_mpi.studies.scaling.model_terms import Scenario
from fedapm_mpi.studies.scaling.schedule import layout
from fedapm_mpi.studies.scaling.simulate import (
    Machine,
    Schedule,
    replay,
    replayed_rounds,
    waiting,
)
from tests.support.round_times import study, workload


def test_a_replay_by_hand():
    """Three ranks on two nodes; cores twice as fast; four rounds of all clients."""
    everyone = participation.get("full")().choose
    scenario = Scenario(workload(4, choose=everyone), layout(3, 2), 1000, 2000)
    model = fit_model(study())
    calendar = Schedule(rounds=4, evaluate_every=3, measure_every=2)
    machine = Machine(scenario.nodes, latency=1e-3, bandwidth=1e6, speed=2.0)
    rounds = replay(
        model, scenario, calendar, machine, replayed_rounds(scenario.workload, 4)
    )
    costs = scenario.workload.training_costs
    homes = schedule.home_assignment(scenario.workload, 3)
    seconds = (costs * 3e-4 + 5e-3) / 2
    on_first = seconds[homes == 1].sum()  # rank 1 shares its node with the server
    others = seconds[homes > 1]
    slowest = max(on_first, time_of_two(others))
    first = rounds[0]
    assert first.start == 0
    assert first.broadcast == pytest.approx(2 * (1e-3 + 1000 / 1e6))
    assert first.work == pytest.approx(seconds.sum() / 3)
    assert first.work + first.imbalance == pytest.approx(slowest)
    assert first.server == pytest.approx((1e-3 + 1e-4 * 4) / 2)
    assert [bool(one.evaluation) for one in rounds] == [False, False, True, True]
    assert [bool(one.consensus) for one in rounds] == [False, True, False, True]
    for one, after in pairwise(rounds):
        assert after.start == one.end
        assert one.end - one.start == pytest.approx(sum(one[2:10]))
    busy = sum(one.work + one.evaluation for one in rounds)
    assert waiting(rounds) == pytest.approx(1 - busy / rounds[-1].end)


def time_of_two(seconds):
    """Return the time of two ranks that take the largest left whenever free."""
    free = [0.0, 0.0]
    for taken in sorted(seconds, reverse=True):
        free[free.index(min(free))] += taken
    return max(free)


def test_a_model_without_evaluations_gives_them_no_time():
    samples = [
        dataclasses.replace(s, evaluation=float("nan"), evaluated=[]) for s in study()
    ]
    model = fit_model(samples)
    assert isinstance(model, Model)
    assert model.evaluation(samples[0].scenario, [np.arange(60)]) == 0
