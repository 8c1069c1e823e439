"""Generations and successive halving, with a function in place of runs."""

import itertools
import random
from fractions import Fraction

import pytest

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.studies.tune import halving
from fedapm_mpi.studies.tune.halving import Plan
from fedapm_mpi.studies.tune.record import Failure, Result, Trial
from fedapm_mpi.studies.tune.sampler import ask
from fedapm_mpi.studies.tune.space import Choice, Dimension, Range, Space
from tests.support.tuning import trial

SPACE = Space(
    [
        Dimension("kind", "k", tuple(Choice(one, one) for one in "abcd")),
        Dimension("x", "x", Range(0.01, 100)),
    ]
)
PLAN = Plan(trials=28, width=8)


def value(one, rounds):
    """What a run would come to; 16 rounds are all."""
    noise = random.Random(f"{sorted(one.params.items())} {rounds}").random()
    return "abcd".index(one.params["kind"]) + noise + rounds / 100


def make(number, generation, params):
    found = Trial(number, generation, params)
    found.rungs = PLAN.rungs_of(16)
    if params["kind"] == "a" and params["x"] > 10:
        found.failure, found.rungs = Failure("ConfigError", "no", 2), []
    return found


def asked(finished, generation, count):
    return ask(SPACE, finished, 4, generation, count)


def searched(shuffle, stop_after=None, trials=()):
    """Return all trials of a search whose runs end in the order of `shuffle`."""
    trials, runs = list(trials), 0
    while True:
        last = max((one.generation for one in trials), default=0)
        generation = [one for one in trials if one.generation == last]
        todo = halving.pending(PLAN, generation)
        if not todo:
            new = halving.next_generation(PLAN, trials, asked, make)
            if not new:
                return trials
            trials += new
            continue
        shuffle(todo)
        one, rounds = todo[0]
        if stop_after is not None and runs == stop_after:
            return trials
        if one.params["x"] > 50 and rounds > 4:
            one.failure = Failure("TrainingError", "not finite", 70)
        else:
            one.results.append(Result(rounds, value(one, rounds)))
        runs += 1


def test_the_same_trials_in_whatever_order_runs_end():
    in_order = searched(lambda todo: None)
    assert searched(lambda todo: todo.reverse()) == in_order
    assert searched(random.Random(3).shuffle) == in_order
    assert halving.best(PLAN, in_order) is not None


@pytest.mark.parametrize("runs", [1, 7, 8, 11, 15, 30])
def test_a_search_that_was_stopped_ends_like_an_unbroken_one(runs):
    unbroken = searched(lambda todo: None)
    assert searched(lambda todo: None, None, searched(lambda todo: None, runs)) == (
        unbroken
    )


def test_as_many_as_planned_are_trained_to_each_rung():
    trials = searched(lambda todo: None)
    assert len(trials) == 28
    sizes = [len(list(own)) for _, own in itertools.groupby(
        trials, key=lambda one: one.generation)]  # fmt: skip
    assert sizes == [8, 8, 8, 4]
    for generation in range(4):
        own = [one for one in trials if one.generation == generation]
        able = [one for one in own if one.rungs]
        first = sorted(able, key=lambda one: -one.results[0].value)
        kept = -(-len(able) // 2)
        expected = {one.number for one in first[:kept]}
        reached = {
            one.number for one in own if len(one.results) > 1 or (
                one.failure and one.failure.kind == "TrainingError")
        }  # fmt: skip
        assert reached == expected
        assert sum(one.complete for one in own) <= -(-kept // 2)


def test_equal_values_are_in_the_order_of_personal_parameters():
    one, other, unknown = (
        trial(0, 1.0, personal=5), trial(1, 1.0, personal=2), trial(2, 1.0)
    )  # fmt: skip
    todo = halving.pending(Plan(3, 3, keep=Fraction(1, 3)), [one, other, unknown])
    assert todo == [(other, 4)]
    whole = [
        trial(0, 1, 1, 0.5, personal=5), trial(1, 1, 1, 0.5, personal=2),
        trial(2, 1, 1, 0.4), trial(3, 9, 9),
    ]  # fmt: skip
    assert halving.best(Plan(3, 3), whole) is whole[1]


def test_less_may_be_better():
    plan = Plan(2, 2, higher_is_better=False)
    low, high = trial(0, 0.1), trial(1, 0.9)
    assert halving.pending(plan, [low, high]) == [(low, 4)]
    seen = halving.finished(plan, [low, high])
    assert [one.values for one in seen] == [[-0.1], [-0.9]]


def test_what_has_failed_has_no_values():
    failed = trial(0, 0.1, failure=Failure("TrainingError", "nan", 70))
    (seen,) = halving.finished(PLAN, [failed])
    assert (seen.steps, seen.values, seen.complete) == ([], [], False)
    assert halving.best(PLAN, [failed]) is None


def test_the_best_are_repeated_and_the_best_mean_is_chosen():
    plan = Plan(4, 4, finalists=2, repeats=2)
    trials = [trial(0, 1, 1, 0.7), trial(1, 1, 1, 0.9), trial(2, 1, 1, 0.8), trial(3)]
    trials[3].failure = Failure("TrainingError", "nan", 70)
    new = halving.next_generation(plan, trials, asked, make)
    assert [(one.number, one.repeats, one.seed) for one in new] == [
        (4, 1, 1), (5, 1, 2), (6, 2, 1), (7, 2, 2),
    ]  # fmt: skip
    assert all((one.rungs, one.results, one.generation) == ([8], [], 1) for one in new)
    assert halving.pending(plan, new) == [(one, 8) for one in new]
    assert halving.best(plan, trials + new) is trials[1]  # while they are not known
    for one, value in zip(new, (0.6, 0.6, 0.75, 0.85), strict=True):
        one.results.append(Result(8, value))
    every = trials + new
    assert halving.mean_value(every, trials[1]) == pytest.approx(0.7)
    assert halving.mean_value(every, trials[2]) == pytest.approx(0.8)
    assert halving.best(plan, every) is trials[2]
    assert halving.pending(plan, new) == []
    assert halving.next_generation(plan, every, asked, make) == []
    new[3].failure = Failure("TrainingError", "nan", 70)
    assert halving.best(plan, every) is trials[1]


def test_nothing_is_repeated_where_there_is_nothing_to_choose():
    plan = Plan(2, 2, finalists=3)
    only = [trial(0, 1, 1, 0.7), trial(1, 1)]
    assert halving.next_generation(plan, only, asked, make) == []
    none = Plan(2, 2, finalists=0)
    two = [trial(0, 1, 1, 0.7), trial(1, 1, 1, 1)]
    assert halving.next_generation(none, two, asked, make) == []


def test_rungs_in_rounds():
    assert PLAN.rungs_of(20) == [5, 10, 20]
    assert PLAN.rungs_of(9) == [3, 5, 9]
    assert PLAN.rungs_of(1) == [1, 1, 1]
    assert Plan(1, 1, (Fraction(1),)).rungs_of(7) == [7]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"trials": 0}, "at least 1"),
        ({"width": 0}, "at least 1"),
        ({"finalists": -1}, "must not be below 0"),
        ({"repeats": -1}, "must not be below 0"),
        ({"rungs": (Fraction(1, 2),)}, "--rungs must be shares that ascend"),
        ({"rungs": (Fraction(1), Fraction(1))}, "--rungs must be shares that ascend"),
        ({"keep": Fraction(1)}, "--keep must be a share"),
    ],
)
def test_plans_that_are_none(changes, expected):
    with pytest.raises(ConfigError, match=expected):
        Plan(**{"trials": 4, "width": 2, **changes})
