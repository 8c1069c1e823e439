"""Which clients a group is of."""

from dataclasses import replace

import pytest

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.config.schema import Group
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.federation.client_selection import assign_groups
from fedapm_mpi.training.context import open_context
from tests.support.mixed_groups import MIXED
from tests.support.processes.cli_runs import (
    experiment,
)


def test_lacks_means_just_these_inputs(toy):
    manifest = replace(
        read_manifest(toy["lacking"]), lacking={"acc": (4,), "gyro": (1, 3, 4)}
    )
    both = Group(model={}, missing_inputs=["gyro", "acc"])
    one = Group(model={}, missing_inputs=["gyro"])
    assert assign_groups([both, one], manifest).tolist() == [0, 2, 0, 2, 1, 0]
    with pytest.raises(ConfigError, match="lacks just acc"):
        assign_groups([Group(model={}, missing_inputs=["acc"])], manifest)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"groups": [{"clients": [8], "model": {"hidden": 5}}]},
            "groups[0].clients: 8 is not among the clients",
        ),
        ({"groups": [{"clients": ["5-3"]}]}, "groups[0].clients: '5-3' is not among"),
        ({"groups": [{"clients": ["a-b"]}]}, "'a-b' is neither a number nor a range"),
        ({"groups": [{"clients": []}]}, "groups[0]: it names no client"),
        (
            {"groups": [{"names": ["client 33"]}]},
            "is called 'client 33'; did you mean",
        ),
        (
            {"groups": [{"missing_inputs": ["x"]}]},
            "groups[0].missing_inputs: no client of",
        ),
        ({"groups": [{"missing_inputs": ["z"]}]}, "has no input 'z'"),
        (
            {"groups": [{"clients": [1], "inputs": ["z"]}]},
            "groups[0].inputs: ",
        ),
        ({"groups": [{"clients": [1], "inputs": []}]}, "groups[0]: no input is left"),
        (
            {"groups": [{"clients": ["0-3"]}, {"clients": [3]}]},
            "client 3 (client 3) is in groups[0] and in groups[1]",
        ),
        (
            {"groups": [{"clients": [1], "model": {"sides": {"x": 9, "y": 2}}}]},
            "'side_x.weight' has the shape (3, 4) in model and (9, 4) in groups[0]",
        ),
        (
            {"partially_shared": ["side_x.*"]},
            "groups[1] does not; make it personal, name it alike",
        ),
        (
            {"partially_shared": ["side_*", "heads"]},
            "partially_shared: 'heads' matches no shared parameter that only some",
        ),
        ({"buffers": "mean"}, "no floating buffers"),
        (
            {"split": {"personal": ["inlets.*"]}},
            "the personal pattern 'inlets.*' matches no parameter",
        ),
    ],
)
def test_what_does_not_fit_is_refused(toy, changes, words):
    config = validate(experiment(toy["features"], **MIXED | changes), "test")
    with pytest.raises(ConfigError) as caught:
        open_context(config, Serial())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
