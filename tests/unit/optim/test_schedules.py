"""Schedules of step sizes, compared with those of torch and with their formulas."""

import math

import pytest
import torch
from torch.optim import lr_scheduler

from fedapm_mpi.optim.schedules import schedules
from fedapm_mpi.optim.solver import BlockRules, Pace, SolverRules

T = 12

BY_TORCH = {
    "step": ({"every": 4, "gamma": 0.3}, lambda o: lr_scheduler.StepLR(o, 4, 0.3)),
    "exponential": ({"gamma": 0.8}, lambda o: lr_scheduler.ExponentialLR(o, 0.8)),
    "linear": (
        {"final": 0.1},
        lambda o: lr_scheduler.LinearLR(o, 1.0, 0.1, total_iters=T),
    ),
    "polynomial": (
        {"power": 3.0},
        lambda o: lr_scheduler.PolynomialLR(o, total_iters=T, power=3.0),
    ),
    "cosine": (
        {"final": 0.05},
        lambda o: lr_scheduler.CosineAnnealingLR(o, T, eta_min=0.05),
    ),
    "cosine with restarts": (
        {"final": 0.05, "period": 3.0, "growth": 2.0},
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, 2, eta_min=0.05),
    ),
    "constant": ({}, lambda o: lr_scheduler.ConstantLR(o, 1.0)),
}
"""Options, and the same schedule by torch for an optimizer with step size 1."""


def test_every_schedule_has_its_case():
    assert {name.partition(" ")[0] for name in BY_TORCH} == set(schedules.names())


@pytest.mark.parametrize("name", BY_TORCH)
def test_factors_are_torchs(name):
    options, make = BY_TORCH[name]
    schedule = schedules.get(name.partition(" ")[0])(**options)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = make(optimizer)
    for t in range(T):
        wanted = optimizer.param_groups[0]["lr"]
        assert schedule.factor(t, T) == pytest.approx(wanted, rel=1e-12, abs=1e-12), t
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("name", ["linear", "polynomial", "cosine"])
def test_a_decay_stays_at_its_end(name):
    schedule = schedules.get(name)(final=0.25)
    for position in (T, T + 1, 10 * T):
        assert schedule.factor(position, T) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"growth": 0.5, "period": 2.0}, "at least 1"), ({"growth": 2.0}, "no effect")],
)
def test_cycles_that_are_none(options, message):
    with pytest.raises(ValueError, match=message):
        schedules.get("cosine")(**options)


def test_the_warm_up_grows_in_a_straight_line_to_the_schedules_beginning():
    pace = Pace(schedules.get("cosine")(), rounds=10, warmup=3)
    found = [pace.factor(t) for t in range(10)]
    assert found[:4] == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1.0])
    wanted = [(1 + math.cos(math.pi * k / 7)) / 2 for k in range(7)]
    assert found[3:] == pytest.approx(wanted)


def test_steps_of_a_round_lie_between_it_and_the_next():
    by_round = Pace(schedules.get("linear")(), rounds=4)
    by_step = Pace(schedules.get("linear")(), rounds=4, unit="step")
    assert [by_round.factor(1, s, 5) for s in range(5)] == [0.75] * 5
    found = [by_step.factor(1, s, 5) for s in range(5)]
    assert found == pytest.approx([1 - (1 + s / 5) / 4 for s in range(5)])
    warm = Pace(schedules.get("constant")(), rounds=4, warmup=1, unit="step")
    found = [warm.factor(0, s, 5) for s in range(5)] + [warm.factor(1, 0, 5)]
    assert found == pytest.approx([(s + 1) / 6 for s in range(6)])


@pytest.mark.parametrize("wrong", [-0.1, math.nan, math.inf, None, "1"])
def test_a_factor_that_is_none(wrong):
    class Own:
        def factor(self, position, rounds):
            return wrong

    with pytest.raises(ValueError, match="factor in round 3"):
        Pace(Own(), rounds=4).factor(2)


def test_factors_of_a_round_are_those_of_blocks_with_a_schedule():
    linear, constant = (schedules.get(name)() for name in ("linear", "constant"))
    rules = SolverRules(shared=BlockRules(pace=Pace(linear, 4)))
    assert rules.factors(1) == {"shared": 0.75}
    rules = SolverRules(
        shared=BlockRules(pace=Pace(linear, 4)),
        personal=BlockRules(pace=Pace(constant, 4)),
    )
    assert rules.factors(1) == {"shared": 0.75, "personal": 1.0}
    assert SolverRules().factors(1) == {}
