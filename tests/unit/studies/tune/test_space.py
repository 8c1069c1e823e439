"""The space of a search: dimensions, the configurations they make, and YAML."""

import re

import pytest

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.studies.tune.space import (
    Choice,
    Dimension,
    Range,
    Space,
    choices_of,
    get_key,
    label_of,
    narrowed,
    range_of,
    set_key,
    written,
)

OPTIMIZER = Dimension("o", "o", (Choice("sgd", None), Choice("adam", {"name": "adam"})))
PLAIN = Dimension("a.lr[sgd]", "a.lr", Range(0.1, 10), {"o": ("sgd",)})
ADAM = Dimension("a.lr[adam]", "a.lr", Range(0.001, 0.1), {"o": ("adam",)})
OTHER = Dimension("a.other", "a.other", Range(0.5, 2, times="a.lr"))
BASE = {"o": None, "a": {"lr": 7, "other": 1, "kept": [1]}, "b": {"c": None}}


def test_quantiles_of_a_range():
    assert Range(0.01, 100).at(0.5) == 1
    assert Range(0.01, 100).at(0) == 0.01
    assert Range(0.01, 100).at(0.25) == 0.1
    assert Range(0, 10, log=False).at(0.25) == 2.5
    assert Range(1, 3).at(0.5) == 1.73  # three digits of the root of 3
    assert Range(1.2345, 3).at(0) == 1.2345  # never outside


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1, 1), "low must be below high"),
        ((0, 1), "low must be above 0 unless log is false"),
        ((1, float("inf")), "low must be below high"),
    ],
)
def test_ranges_that_are_none(values, expected):
    with pytest.raises(ValueError, match=expected):
        Range(*values)


def test_only_active_parameters_count_and_the_base_stays():
    space = Space([OPTIMIZER, PLAIN, ADAM, OTHER])
    found = space.configuration(
        BASE, {"o": "adam", "a.lr[sgd]": 5, "a.lr[adam]": 0.02, "a.other": 1.5}
    )
    assert found == {
        "o": {"name": "adam"},
        "a": {"lr": 0.02, "other": 0.03, "kept": [1]},
        "b": {"c": None},
    }
    assert BASE["a"] == {"lr": 7, "other": 1, "kept": [1]}
    assert space.configuration(BASE, {"o": "sgd", "a.lr[sgd]": 5, "a.other": 2})["a"][
        "other"
    ] == 10  # fmt: skip


def test_a_quotient_and_further_keys():
    order = Dimension("b.c", "b.c", (Choice("x", 1, {"a.kept": None, "d.e": 2}),))
    inverse = Dimension("a.other", "a.other", Range(1, 2, over="a.lr"))
    found = Space([order, inverse]).configuration(BASE, {"a.other": 1.4})
    assert found == {
        "o": None, "a": {"lr": 7, "other": 0.2, "kept": None}, "b": {"c": 1},
        "d": {"e": 2},
    }  # fmt: skip


def test_what_is_fixed_is_not_free():
    space = Space([Dimension("o", "o", (Choice("adam", 1),)), ADAM, PLAIN])
    assert [one.name for one in space.free] == ["a.lr[adam]", "a.lr[sgd]"]
    assert space.whole({"a.lr[adam]": 0.1}) == {"o": "adam", "a.lr[adam]": 0.1}


def test_what_is_configured_is_a_point_of_the_space():
    work = Dimension("w", "w", (Choice("1", {"epochs": 1}), Choice("2", {"epochs": 2})))
    many = Dimension("n", "n", (Choice("x", [1]), Choice("y", [1, 2])))
    inverse = Dimension("i", "i", Range(0.1, 10, over="a.lr"))
    space = Space([OPTIMIZER, PLAIN, ADAM, OTHER, work, many, inverse])
    base = {
        "o": {"name": "adam", "eps": 1e-8},
        "a": {"lr": 0.02, "other": 0.03},
        "w": {"epochs": 2, "steps": None},
        "n": (1, 2),
        "i": 25,
    }
    assert space.nearest(base) == {
        "o": "adam", "a.lr[sgd]": 0.1, "a.lr[adam]": 0.02, "a.other": 1.5, "w": "2",
        "n": "y", "i": 0.5,
    }  # fmt: skip
    found = space.nearest({**base, "o": {"name": "lion"}, "i": None})
    assert (found["o"], found["i"]) == ("sgd", 1)


def test_dotted_keys():
    values = {"a": {"b": 1}, "x": None}
    set_key(values, "a.c", 2)
    set_key(values, "x.y.z", 3)
    assert values == {"a": {"b": 1, "c": 2}, "x": {"y": {"z": 3}}}
    assert get_key(values, "x.y") == {"z": 3}
    assert get_key(values, "x.y.z.w") is None


def test_labels():
    assert label_of(None) == "none"
    assert label_of(True) == "true"
    assert label_of({"name": "sgd", "momentum": 0.9}) == "sgd momentum=0.9"
    assert label_of({"personal": ["a.*", "b"]}) == "personal=a.*+b"
    assert [one.label for one in choices_of([1, 2, 1])] == ["1", "2"]


def test_a_file_narrows_by_label_or_value_and_adds():
    found = narrowed(OPTIMIZER, ["adam", {"name": "lion"}, None], "o")
    assert [one.value for one in found.values] == [
        {"name": "adam"}, {"name": "lion"}, None
    ]  # fmt: skip
    assert narrowed(OPTIMIZER, None, "o").values == (Choice("sgd", None),)
    assert narrowed(PLAIN, {"low": 1, "high": 2}, "lr").values == Range(1, 2)
    assert narrowed(PLAIN, 3, "lr").values == (Choice("3", 3),)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], "k: it has no values"),
        ({"low": 1}, "k: high must be a number, got null"),
        ({"low": "1", "high": 2}, "k: low must be a number, got '1'"),
        ({"low": 1, "hihg": 2, "high": 3}, "no 'hihg'; did you mean 'high'?"),
        ({"low": 1, "high": 2, "log": 1}, "k: log must be true or false, got 1"),
        ({"low": 1, "high": 2, "times": 1}, "k: times must be a key, got 1"),
        ({"low": 2, "high": 1}, "k: low must be below high"),
        ("adm", "k: there is no 'adm'; did you mean 'adam'? (known: sgd, adam;"),
    ],
)
def test_what_is_wrong_in_a_file(given, expected):
    with pytest.raises(ConfigError, match=re.escape(expected)):
        narrowed(OPTIMIZER, given, "k", labels_only=True)


def test_a_range_of_a_file():
    given = {"low": 0, "high": 2, "log": False}
    assert range_of(given, "k") == Range(0, 2, log=False)
    assert range_of({"low": 1, "high": 2, "over": "b"}, "k") == Range(1, 2, over="b")


def test_what_is_printed_is_read_again():
    space = Space([OPTIMIZER, PLAIN, ADAM, OTHER])
    again = [narrowed(one, written(space)[one.name], one.name) for one in space]
    assert Space(again).plain() == space.plain()
