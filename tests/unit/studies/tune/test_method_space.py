"""Default spaces follow from the options of each method."""

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt

from fedapm_mpi.algorithms.base import algorithms
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.studies.tune import method_space
from fedapm_mpi.studies.tune.default_space import build_space
from fedapm_mpi.studies.tune.method_space import (
    method_dimensions,
    optimizer_kind,
    solver_dimensions,
)
from fedapm_mpi.studies.tune.sampler import ask
from fedapm_mpi.studies.tune.space import Range
from tests.support.algorithm_options import SHARING_ALL, SHARING_PART
from tests.support.processes.cli_runs import FEDAPM, FEDSIM
from tests.support.tuning import JOINT, values_of

METHODS = {
    **SHARING_ALL,
    **SHARING_PART,
    "fedapm": FEDAPM,
    "fedapm-joint": JOINT,
    "fedsim": {"name": "fedsim", **FEDSIM},
    "fedavg": {"name": "fedavg", **FEDSIM},
    "local": {"name": "local", **FEDSIM},
}
SHARING_SPLIT = ("fedapm", "fedapm-joint", "fedsim", *SHARING_PART)


FEW = {"name": "random", "fraction": 0.5}


def config_of(data, name, **changes):
    values = values_of(data, **{"algorithm": METHODS[name], **changes})
    if name not in SHARING_SPLIT:
        values["split"] = None
    return validate(values, "t")


def space_of(data, name, given=(), **changes):
    config = config_of(data, name, **changes)
    return build_space(config, read_manifest(config.data), dict(given)), config


def by_key(space, key):
    return [one for one in space if one.key == key]


def test_every_method_of_the_package_is_among_these():
    assert {options["name"] for options in METHODS.values()} == set(algorithms.names())


@pytest.mark.parametrize("name", METHODS)
def test_every_configuration_of_a_default_space_is_valid(data, name):
    space, config = space_of(data, name)
    keys = {one.key for one in space}
    assert {"optimizer", "schedule"} <= keys
    assert ("split" in keys) == (name in SHARING_SPLIT)
    for params in ask(space, [], seed=1, generation=0, count=24):
        found = validate(space.configuration(config.plain(), params), "t")
        assert found.algorithm["name"] == METHODS[name]["name"]


@pytest.mark.parametrize("name", METHODS)
def test_ranges_contain_what_is_configured(data, name):
    space, config = space_of(data, name)
    kind = optimizer_kind(config.optimizer)
    for one in space:
        values = one.values
        if not isinstance(values, Range) or values.times or "[" in one.name:
            continue
        configured = config.algorithm[one.key.partition(".")[2]]
        assert values.low <= configured <= values.high
    main = method_space.main_step(config.plain())
    for one in by_key(space, main) if main else ():
        if one.name.endswith(f"[{kind}]"):
            configured = config.algorithm[main.partition(".")[2]]
            assert one.values.low <= configured <= one.values.high


def test_fedapm_contains_its_special_cases(data):
    space, _ = space_of(data, "fedapm")
    (split,) = by_key(space, "split")
    values = [one.value for one in split.values]
    assert {"personal": []} in values  # consensus
    assert {"shared": []} in values  # local training
    (order,) = by_key(space, "algorithm.block_order")
    assert order.labels == ["joint", "alternate"]
    (dual,) = by_key(space, "algorithm.dual_step")
    assert dual.values.low <= 0.01
    assert not by_key(space, "algorithm.sigma")
    assert not by_key(space, "algorithm.server_average")  # all take part
    space, _ = space_of(data, "fedapm", participation=FEW)
    (average,) = by_key(space, "algorithm.server_average")
    assert average.labels == ["all", "participants"]


def test_a_share_of_the_duals_is_of_the_participants_mean(data):
    """So where it is searched, that mean stays."""
    for participation, configured in ((FEW, 1.0), ({"name": "full"}, None)):
        own = {"algorithm": {"name": "fedapm"}, "participation": participation}
        space, config = space_of(data, "fedapm", **own)
        assert config.algorithm["dual_share"] == configured
        assert not by_key(space, "algorithm.server_average")
        (share,) = by_key(space, "algorithm.dual_share")
        assert [one.value for one in share.values] == [None, 1.0, 0.5]
        met = set()
        for params in ask(space, [], seed=1, generation=1, count=12):
            options = space.configuration(config.plain(), params)["algorithm"]
            assert options["server_average"] == "participants"
            met.add(options["dual_share"])
        assert met == {None, 1.0, 0.5}
    own = {"algorithm": {"name": "fedapm", "dual_share": 0.2}, "participation": FEW}
    space, _ = space_of(data, "fedapm", **own)
    (share,) = by_key(space, "algorithm.dual_share")
    assert [one.value for one in share.values] == [None, 1.0, 0.5, 0.2]
    space, _ = space_of(data, "fedapm")  # its mean is over all
    assert not by_key(space, "algorithm.dual_share")


def test_order_of_blocks_and_local_work_go_together(data):
    space, config = space_of(data, "fedapm")
    for params in ask(space, [], seed=1, generation=0, count=8):
        options = space.configuration(config.plain(), params)["algorithm"]
        joint = params["algorithm.block_order"] == "joint"
        assert (options["joint_work"] is not None) == joint
        assert (options["personal_work"] is None) == joint


def test_step_sizes_depend_on_the_optimizer_and_the_unit(data):
    space, _ = space_of(data, "fedsim")
    steps = {one.name: one.values for one in by_key(space, "algorithm.lr")}
    assert set(steps) == {f"algorithm.lr[{k}]" for k in ("sgd", "momentum", "adaptive")}
    assert steps["algorithm.lr[adaptive]"].high == 0.05
    # With six clients of weight 1/6 a plain step is six times as long, an adaptive one
    # is not, and a penalty is a sixth.
    weighted, _ = space_of(data, "fedadmm")
    for one in by_key(weighted, "algorithm.lr"):
        if one.name.endswith("[sgd]"):
            assert one.values.high == pytest.approx(6)
        if one.name.endswith("[adaptive]"):
            assert one.values.high == 0.05
    (rho,) = by_key(weighted, "algorithm.rho")
    assert rho.values.high == pytest.approx(0.5)


def test_fine_tuning_is_for_methods_without_a_model_of_their_own(data):
    with_it = {name for name in METHODS if by_key(space_of(data, name)[0], FINE_TUNE)}
    assert "fedavg-momentum" in with_it
    assert with_it.isdisjoint({"local", "ditto", "pfedme", "flame", "fedavg-ft"})


FINE_TUNE = "evaluation.fine_tune"


@dataclass(frozen=True)
class Own:
    """Options of a user's method, known by their types alone."""

    positive: Annotated[float, Gt(0)] = 2.0
    zero_too: Annotated[float, Ge(0)] = 1.0
    mode: Literal["x", "y"] = "x"
    text: str = "z"
    flag: bool = True


def test_options_known_by_their_types(monkeypatch):
    monkeypatch.setattr(algorithms, "get", lambda name: Own)
    base = {"algorithm": {"name": "m:Own", **vars(Own())}}
    (optimizer, _) = solver_dimensions(base)
    found = method_dimensions(base, optimizer, everyone=True, unit=1.0)
    values = {one.key.partition(".")[2]: one for one in found}
    assert set(values) == {"positive", "zero_too", "mode"}
    assert values["positive"].values == Range(0.2, 20)
    assert [one.value for one in values["zero_too"].values] == [0.0, 0.1, 1.0]
    assert values["mode"].labels == ["x", "y"]


def test_a_configured_optimizer_and_schedule_are_among_the_choices():
    base = {
        "optimizer": {"name": "adamw", "weight_decay": 0.1},
        "schedule": {"name": "cosine", "final": 0.5},
    }
    optimizer, schedule = solver_dimensions(base)
    assert optimizer.labels == ["adamw", "sgd", "sgd momentum", "adam"]
    assert optimizer.values[0].value == base["optimizer"]
    assert schedule.labels == ["cosine", "none"]
    assert schedule.values[0].value["final"] == 0.5


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "sgd"), ("sgd", "sgd"), ({"name": "sgd", "momentum": 0.9}, "momentum"),
        ({"name": "sgd", "momentum": 0}, "sgd"), ("adam", "adaptive"),
    ],
)  # fmt: skip
def test_kinds_of_optimizers(value, expected):
    assert optimizer_kind(value) == expected
