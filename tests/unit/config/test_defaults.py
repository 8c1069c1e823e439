"""A configuration that leaves its solver, its split or its rounds to the package."""

import sys
from dataclasses import dataclass

import pytest

from fedapm_mpi.algorithms.base import StepSize, algorithms
from fedapm_mpi.algorithms.fedsim import FedSim
from fedapm_mpi.config.defaults import step_size_options
from fedapm_mpi.config.loader import load, validate
from fedapm_mpi.config.schema import Config
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.models import models
from fedapm_mpi.optim.optimizers import optimizers
from tests.support.valid_config import VALID, changed, errors_of

NAMES = algorithms.builtin_names()
ADAM = {"name": "adam", "betas": [0.9, 0.99]}
COSINE = {"name": "cosine", "warmup": 2, "final": 0.05}
INVERSE = {"iiadmm": "zeta", "iceadmm": "curvature"}


def resolved(algorithm, **more):
    values = {"data": "somewhere", "model": "mlp", "algorithm": algorithm, **more}
    return validate(values, "test")


def step_sizes(config: Config) -> list[float]:
    """Return the sizes of local steps that a configuration means."""
    part = config.algorithm
    if part["name"] in INVERSE:
        return [1 / (part["rho"] + part[INVERSE[part["name"]]])]
    return [part[name] for name in step_size_options(algorithms.get(part["name"]))]


BIASES = {"personal": ["*bias*"]}
SPLITS = {key: {"last": 1} for key in ("fedper", "fedrep", "fedbabu")}
"""Of methods that are about a last layer of each client's own."""


@pytest.mark.parametrize(
    ("model", "inputs", "kept"),
    [
        ("har", [("acc", (64, 3)), ("gyro", (64, 3))], 103_808),
        ("image-text", [("image", (1, 1280)), ("text", (20, 512))], 427_008),
        ("audio-video", [("audio", (40, 80)), ("video", (9, 1280))], 704_736),
    ],
)
def test_the_papers_models_keep_what_the_paper_keeps(model, inputs, kept):
    """As many personal parameters as its section 4 counts."""
    config = resolved("fedapm", model=model)
    specs = tuple(InputSpec(name, shape, "float32") for name, shape in inputs)
    module = models.get(model)(specs, 8)
    split = PartitionedModel.from_patterns(module, personal=config.split.personal)
    assert sum(split.sizes("personal").values()) == kept


@pytest.mark.parametrize("name", NAMES)
def test_a_name_alone_is_the_same_as_all_defaults_written_out(name):
    config = resolved(name)
    assert config.rounds == 30
    written = resolved(
        {"name": name},
        rounds=30,
        optimizer="sgd" if name == "iceadmm" else ADAM,
        schedule=COSINE,
        **({} if config.split is None else {"split": SPLITS.get(name, BIASES)}),
    )
    assert written == config
    lr = 0.03 if name == "iceadmm" else 0.008
    assert step_sizes(config) == pytest.approx([lr] * len(step_sizes(config)))
    assert step_sizes(config)
    assert validate(config.plain(), "again") == config


@pytest.mark.parametrize("name", NAMES)
def test_a_step_size_without_an_optimizer_is_plain_sgd(name):
    (option, *others) = step_size_options(algorithms.get(name))
    config = resolved({"name": name, option: 0.25})
    assert (config.optimizer, config.schedule) == (None, None)
    for other in others:  # there is no reason for another size
        assert config.algorithm[other] == 0.25


def test_fedapm_alone():
    part = resolved("fedapm").algorithm
    wanted = {
        "units": "client", "rho": 0.2, "sigma": 0.0, "dual_step": 1.0,
        "relaxation": 1.0, "batch_size": 16, "block_order": "joint",
        "personal_work": None, "shared_work": None, "server_average": "participants",
    }  # fmt: skip
    assert {key: part[key] for key in wanted} == wanted
    assert part["joint_work"]["epochs"] == 2


@pytest.mark.parametrize(
    ("options", "average"),
    [
        ({}, "participants"),
        ({"server_average": "all"}, "all"),
        ({"relaxation": 1.5}, "all"),
        ({"relaxation": 1.0}, "participants"),
        ({"residual_balancing": {}}, "all"),
        ({"rho_schedule": {"growth": 1.1}}, "all"),
        ({"lr_personal": 0.1}, "all"),
        ({"rho": 0.2}, "participants"),
    ],
)
def test_fedapms_mean(options, average):
    part = resolved({"name": "fedapm", **options}).algorithm
    assert part["server_average"] == average


FEW = {"name": "random", "fraction": 0.3}


@pytest.mark.parametrize(
    ("options", "participation", "share"),
    [
        ({}, FEW, 1.0),
        ({}, {"name": "probability", "probability": 0.5}, 1.0),
        ({}, "full", None),
        ({}, None, None),
        ({"dual_share": 0.2}, FEW, 0.2),
        ({"dual_share": None}, FEW, None),
        ({"dual_share": 0.2}, "full", 0.2),
        ({"server_average": "all"}, FEW, None),
        ({"relaxation": 1.5}, FEW, None),
        ({"lr_personal": 0.1}, FEW, None),
    ],
)
def test_fedapms_share_of_the_duals(options, participation, share):
    changes = {"participation": participation} if participation else {}
    part = resolved({"name": "fedapm", **options}, **changes).algorithm
    assert part["dual_share"] == share


def test_iceadmm_starts_at_the_broadcast_model_unless_it_says_otherwise():
    assert resolved("iceadmm").algorithm["init"] == "global"
    assert resolved({"name": "iceadmm", "init": "local"}).algorithm["init"] == "local"
    assert resolved({"name": "iceadmm", "curvature": 9}).algorithm["init"] == "local"


def test_works_without_an_order_still_mean_alternating_blocks():
    part = validate(VALID, "test").algorithm
    assert part["block_order"] == "alternate"
    assert part["joint_work"] is None
    works = part["personal_work"], part["shared_work"]
    assert [(one["epochs"], one["steps"]) for one in works] == [(1, None), (None, 4)]


@pytest.mark.parametrize(
    ("optimizer", "lr"),
    [
        (None, 0.3),
        ("sgd", 0.3),
        ({"name": "sgd", "momentum": 0.9}, 0.03),
        ("adamw", 0.008),
        ({"name": "adam", "personal": {"betas": [0.5, 0.9]}}, 0.008),
        ({"name": "adam", "personal": {"name": "adam"}}, 0.008),
    ],
)
@pytest.mark.parametrize("name", ["fedapm", "iiadmm", "fedavg-ft"])
def test_step_sizes_suit_the_optimizer(name, optimizer, lr):
    config = resolved(name, optimizer=optimizer)
    found = step_sizes(config)
    assert found == pytest.approx([lr] * len(found))
    assert config.schedule is not None


@pytest.mark.parametrize("name", optimizers.builtin_names())
def test_every_optimizer_has_a_step_size(name):
    assert resolved("fedavg", optimizer=name).algorithm["lr"] > 0


def test_what_is_given_is_kept():
    config = resolved("local", schedule=None, rounds=7)
    assert config.schedule is None
    assert config.optimizer is not None
    config = resolved("local", schedule={"name": "linear"}, rounds=7)
    assert config.schedule is not None
    assert config.schedule["name"] == "linear"
    assert resolved("local", rounds=12).schedule["rounds"] == 12
    assert resolved("local", rounds=5).schedule["warmup"] == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"optimizer": {"name": "adam", "personal": "sgd"}},
            "optimizer.personal: is another one than optimizer, so no step size suits "
            "both; give algorithm.lr_personal and algorithm.lr_shared",
        ),
        ({"optimizer": "adma"}, "unknown optimizer 'adma'"),
        ({"optimizer": {"name": "adam", "beta": 1}}, "unknown key"),
        ({"rounds": "many"}, "rounds: "),
        ({"algorithm": {"name": "fedapm", "rho": "much"}}, "rho: "),
        (
            {"algorithm": {"name": "fedapm", "units": "weighted", "lr_shared": 0.1}},
            "algorithm 'fedapm': rho: missing; with units 'weighted'",
        ),
        (
            {"algorithm": {"name": "fedapm", "units": "weighted", "lr_shared": 0.1}},
            "algorithm 'fedapm': lr_personal: missing; with units 'weighted'",
        ),
        ({"optimizer": "torch.optim:SparseAdam"}, "optimizer"),
        ({"optimizer": "torch.optim:Adam"}, "no step size is known for the optimizer"),
    ],
)
def test_what_has_no_default_is_said(changes, words):
    values = {"data": "somewhere", "model": "mlp", "algorithm": "fedapm"}
    assert words in errors_of(values | changes)


def test_a_users_own_optimizer_may_know_its_step_size(tmp_path):
    path = tmp_path / "own_default_lr.py"
    path.write_text("class Mine:\n    default_lr = 0.125\n"
                    "    def init(self, vector):\n        return {}\n"
                    "    def step(self, vector, gradient, state, lr):\n"
                    "        vector.sub_(gradient, alpha=lr)\n")  # fmt: skip
    config = resolved("fedavg", optimizer=f"{path}:Mine")
    assert config.algorithm["lr"] == 0.125


@dataclass(frozen=True, kw_only=True)
class OwnDefault(FedSim):
    """A user's method with a step size of its own, plain SGD as it always was."""

    lr: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Inherits(FedSim):
    """A user's method that inherits its step size."""


@dataclass(frozen=True, kw_only=True)
class Declares(FedSim):
    """A user's method with a further step size."""

    lr_more: StepSize


def test_a_users_own_default_is_not_touched():
    module = sys.modules[__name__].__name__
    config = resolved(f"{module}:OwnDefault", split={"first": 1})
    assert (config.algorithm["lr"], config.optimizer) == (0.5, None)
    config = resolved(f"{module}:Inherits")
    assert config.algorithm["lr"] == 0.008
    assert config.optimizer is not None
    assert config.split is not None
    config = resolved(f"{module}:Declares")
    assert config.algorithm["lr_more"] == 0.008
    config = resolved({"name": f"{module}:Declares", "lr": 0.3})
    assert (config.algorithm["lr_more"], config.optimizer) == (0.3, None)


def test_the_command_line_can_take_the_solver_away(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("data: somewhere\nmodel: mlp\nalgorithm: fedapm\n")
    assert load(path).optimizer is not None
    plain = load(path, ["algorithm.lr_shared=0.1"])
    assert (plain.optimizer, plain.schedule) == (None, None)
    sgd = load(path, ["optimizer=null", "schedule=null"])
    assert (sgd.optimizer, sgd.schedule) == (None, None)
    assert sgd.algorithm["lr_shared"] == 0.3
    other = load(path, ["algorithm=fedavg"])
    assert other.split is None


def test_a_valid_configuration_keeps_its_meaning():
    before = changed(optimizer=None, schedule=None)
    assert validate(VALID, "test") == validate(before, "test")
