"""The splits of a space are those of the model."""

import pytest

from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.federation.federation import build_algorithm
from fedapm_mpi.studies.tune.space import Choice, Dimension, Range, Space
from fedapm_mpi.studies.tune.splits import (
    split_dimension,
    trained_blocks_of,
    with_each_split,
)
from tests.support.tuning import FEATURES, values_of

HIDDEN, CLASSES = 8, 2


def choices(data, split):
    config = validate(values_of(data, split=split), "t")
    algorithm = build_algorithm(config.algorithm)
    found = split_dimension(config, read_manifest(data), algorithm)
    return {one.label: one for one in found.values}


def test_candidates_with_their_sizes(data):
    found = choices(data, {"personal": ["*bias*"]})
    whole = (FEATURES + 1) * HIDDEN + (HIDDEN + 1) * CLASSES
    assert {label: one.size for label, one in found.items()} == {
        "nothing": 0, "output_bias": CLASSES, "biases": HIDDEN + CLASSES,
        "head": (HIDDEN + 1) * CLASSES, "head+biases": (HIDDEN + 1) * CLASSES + HIDDEN,
        "first_1": (FEATURES + 1) * HIDDEN, "all": whole,
    }  # fmt: skip
    assert found["all"].value == {"shared": []}
    assert found["nothing"].value == {"personal": []}
    assert len(found["biases"].value["personal"]) == 2


@pytest.mark.parametrize(
    "split",
    [{"personal": ["*bias*"]}, {"personal": []}, {"shared": []}, {"shared": ["head*"]}],
)
def test_a_configured_split_that_is_offered_is_there_once(data, split):
    assert "configured" not in choices(data, split)


def test_another_configured_split_comes_first(data):
    found = choices(data, {"personal": ["head.weight"]})
    assert next(iter(found)) == "configured"
    assert found["configured"].value == {"personal": ["head.weight"]}
    assert found["configured"].size == HIDDEN * CLASSES


@pytest.mark.parametrize(
    ("split", "sharing", "expected"),
    [
        (None, "all", ("shared",)),
        (None, "none", ("personal",)),
        ({"personal": [], "shared": None}, "split", ("shared",)),
        ({"shared": []}, "split", ("personal",)),
        ({"personal": ["a"]}, "split", ("personal", "shared")),
    ],
)
def test_blocks(split, sharing, expected):
    assert trained_blocks_of(split, sharing) == expected


def space_of(count):
    labels = "abcdefghijkl"[:count]
    split = Dimension("split", "split", tuple(Choice(one, one) for one in labels))
    return Space([split, Dimension("x", "x", Range(0.1, 10))])


@pytest.mark.parametrize(
    ("splits", "count", "expected"),
    [
        (3, 8, "bac"),
        (3, 3, "bac"),
        (12, 8, "baceghjl"),
        (12, 3, "bal"),
        (12, 2, "ba"),
        (12, 1, "b"),
        (1, 4, "b"),  # nothing to choose from
    ],
)
def test_the_first_trials_have_different_splits_and_nothing_else(
    splits, count, expected
):
    first = {"split": "b", "x": 3.0}
    found = with_each_split(space_of(splits), first, count)
    assert "".join(one["split"] for one in found) == expected
    assert all(one["x"] == 3.0 for one in found)


def test_a_space_without_splits_begins_with_what_is_configured():
    space = Space([Dimension("x", "x", Range(0.1, 10))])
    assert with_each_split(space, {"x": 3.0}, 8) == [{"x": 3.0}]
