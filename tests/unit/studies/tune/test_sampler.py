"""Parameters: a stratified first part, then an estimate from finished trials."""

from itertools import pairwise

import pytest

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.studies.tune import sampler
from fedapm_mpi.studies.tune.sampler import Finished, ask
from fedapm_mpi.studies.tune.space import Choice, Dimension, Range, Space

SPACE = Space(
    [
        Dimension("kind", "k", (Choice("a", 1), Choice("b", 2), Choice("c", 3))),
        Dimension("same", "s", (Choice("only", 1),)),
        Dimension("x", "x", Range(0.01, 100)),
        Dimension("of_a", "y", Range(0, 1, log=False), {"kind": ("a",)}),
    ]
)


def finished(value, params, complete=True):
    steps = [0, 1, 2] if complete else [0]
    return Finished(params, steps, [value] * len(steps), complete)


def history(count, seed=0):
    """Trials of which kind b with x near 1 are the best."""
    found = []
    for params in ask(SPACE, [], seed, 0, count):
        far = abs(params["x"] - 1)
        good = (params["kind"] == "b") - min(far, 3) / 3
        found.append(finished(good, params, complete=good > -0.9))
    return found


def test_the_first_part_is_spread_evenly():
    asked = ask(SPACE, [], seed=1, generation=0, count=9)
    kinds = [params["kind"] for params in asked]
    assert sorted(kinds) == sorted("abc" * 3)
    # One number in each ninth of the range, on its logarithmic scale.
    edges = [Range(0.01, 100).at(k / 9) for k in range(10)]
    for low, high in pairwise(edges):
        assert sum(low <= params["x"] <= high for params in asked) == 1
    for params in asked:
        assert "same" not in params
        assert ("of_a" in params) == (params["kind"] == "a")


def test_the_first_trial_is_what_is_configured():
    first = {"kind": "b", "same": "only", "x": 3.5, "of_a": 0.5}
    asked = ask(SPACE, [], 1, 0, 5, [first])
    assert asked[0] == {"kind": "b", "x": 3.5}
    assert asked[1:] == ask(SPACE, [], 1, 0, 4)
    assert ask(SPACE, [], 1, 0, 1, [first]) == asked[:1]
    assert ask(SPACE, history(12), 1, 1, 4, [first]) == ask(SPACE, history(12), 1, 1, 4)


def test_a_generation_follows_from_seed_number_and_history_alone():
    past = history(12)
    asked = ask(SPACE, past, 5, 2, 4)
    assert ask(SPACE, past, 5, 2, 4) == asked
    assert ask(SPACE, past, 6, 2, 4) != asked
    assert ask(SPACE, past, 5, 3, 4) != asked
    assert ask(SPACE, past[:-1], 5, 2, 4) != asked
    assert ask(SPACE, [], 5, 0, 4) == ask(SPACE, [], 5, 0, 4)


def test_what_was_good_is_asked_for_more_often():
    past = history(40)
    asked = ask(SPACE, past, 1, 5, 20)
    near = [0.2 < params["x"] < 5 for params in asked]
    kinds = [params["kind"] for params in asked]
    assert kinds.count("b") > 10
    assert sum(near) > 10


def test_how_many_are_good():
    counts = [sampler.good_ones(n) for n in (1, 4, 8, 13, 16, 40, 41, 100, 1000)]
    assert counts == [1, 1, 2, 4, 4, 4, 5, 10, 25]


def test_failed_trials_are_told_without_a_value():
    past = history(12)
    for params in ask(SPACE, [], 9, 1, 4):
        past.append(Finished(params, [], [], complete=False))
    assert len(ask(SPACE, past, 1, 3, 4)) == 4


def test_numbers_are_short_and_within_their_range():
    for params in ask(SPACE, history(16), 3, 2, 16):
        assert 0.01 <= params["x"] <= 100
        assert params["x"] == float(f"{params['x']:.3g}")


def test_without_optuna(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(sampler, "import_module", missing)
    with pytest.raises(ConfigError, match=r"pip install 'fedapm-mpi\[tune\]'"):
        sampler.optuna_module()
