"""The default space, narrowed, widened and fixed by a file."""

import re

import pytest

from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.studies.tune.default_space import build_space
from fedapm_mpi.studies.tune.space import Range
from tests.support.tuning import JOINT, values_of


def space_of(data, given, **changes):
    config = validate(values_of(data, **changes), "t")
    return build_space(config, read_manifest(data), given)


def by_name(space):
    return {one.name: one for one in space}


def test_a_file_narrows_widens_fixes_and_adds(data):
    space = by_name(
        space_of(
            data,
            {
                "split": ["biases", "nothing", {"personal": ["head.*"]}],
                "optimizer": "adamw",
                "algorithm.rho": {"low": 0.001, "high": 1},
                "algorithm.lr_shared[adaptive]": {"low": 0.01, "high": 0.02},
                "algorithm.sigma": 0.5,
                "model.hidden": [[4], [8, 8]],
                "evaluation.fine_tune": None,
            },
        )
    )
    assert space["split"].labels == ["biases", "nothing", "personal=head.*"]
    assert space["optimizer"].labels == ["adamw"]
    assert space["algorithm.rho"].values == Range(0.001, 1)
    steps = [name for name in space if name.startswith("algorithm.lr_shared")]
    assert steps == ["algorithm.lr_shared[adaptive]"]
    assert space[steps[0]].values == Range(0.01, 0.02)
    assert space["algorithm.sigma"].fixed
    assert [one.value for one in space["model.hidden"].values] == [[4], [8, 8]]
    assert space["evaluation.fine_tune"].labels == ["none"]


def test_one_range_in_place_of_one_for_each_optimizer(data):
    space = by_name(space_of(data, {"algorithm.lr_shared": {"low": 0.1, "high": 0.2}}))
    assert space["algorithm.lr_shared"].when == {}
    assert not any("lr_shared[" in name for name in space)
    # Multiples of it come after it.
    names = list(space)
    assert names.index("algorithm.lr_shared") < names.index("algorithm.lr_personal")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"algorithm.roh": [1, 2]}, "roh: unknown key; did you mean 'rho'?"),
        ({"optimizr": "adam"}, "optimizr: unknown key; did you mean 'optimizer'?"),
        ({"algorithm.rho": [1, -1]}, "algorithm.rho: algorithm 'fedapm': rho: input"),
        ({"algorithm.rho": {"low": -1, "high": 1, "log": False}}, "algorithm.rho: "),
        ({"split": "bias"}, "there is no 'bias'; did you mean 'biases'?"),
        ({"split": {"first": 0}}, "split: "),
        ({"split": {"auto": {}}}, "split: auto trains to choose"),
        ({"optimizer": "adem"}, "did you mean 'adam'?"),
        ({"rounds": [1, 2]}, "rounds: cannot be searched: rounds follow from"),
        ({"algorithm.name": "ditto"}, "algorithm.name: cannot be searched"),
        ({"seed": 1}, "seed: cannot be searched"),
        ({"replicate": [0, 1]}, "replicate: cannot be searched"),
        ({"stacked": ["off", 4]}, "stacked: cannot be searched"),
        ({"kernels": ["native", "portable"]}, "kernels: cannot be searched"),
        ({"evaluation.split": "test"}, "evaluation.split: cannot be searched"),
        ({"algorithm.lr_shared[adaptve]": 1}, "did you mean 'algorithm.lr_shared[ada"),
        (
            {"algorithm.sigma": {"low": 1, "high": 2, "times": "algorithm.roh"}},
            "algorithm.roh is not a number of the configuration; did you mean "
            "'algorithm.rho'?",
        ),
        ({"model.hidden": []}, "model.hidden: it has no values"),
    ],
)
def test_what_is_wrong_is_refused_with_what_may_be_meant(data, given, expected):
    with pytest.raises(ConfigError, match=re.escape(expected)):
        space_of(data, given)


def test_values_that_the_configuration_excludes_are_not_in_the_default_space(data):
    """With a penalty that has bounds rho stays as it is configured."""
    balanced = {**JOINT, "residual_balancing": {"rho_min": 0.2, "rho_max": 0.4}}
    changes = {
        "algorithm": balanced,
        "participation": {"name": "random", "fraction": 0.5},
    }
    space = by_name(space_of(data, {}, **changes))
    assert "algorithm.rho" not in space
    assert space["algorithm.server_average"].labels == ["all"]


def test_methods_that_need_both_blocks_are_offered_no_end(data):
    options = {
        "name": "fedbabu", "lr": 0.1, "batch_size": 8, "work": {"epochs": 1},
        "lr_fine_tune": 0.1, "fine_tune_work": {"epochs": 1},
    }  # fmt: skip
    labels = by_name(space_of(data, {}, algorithm=options))["split"].labels
    assert labels
    assert {"nothing", "all"}.isdisjoint(labels)
