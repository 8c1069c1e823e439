"""Optimizer, schedule, clip and accumulation in a configuration."""

import pytest
import yaml

from fedapm_mpi.config.loader import load, resolve, validate
from fedapm_mpi.config.schema import Config
from fedapm_mpi.training.identity import identity_of
from tests.support.valid_config import VALID, changed, errors_of

ADAM = {
    "amsgrad": False, "betas": (0.9, 0.999), "decoupled_weight_decay": False,
    "eps": 1e-8, "name": "adam", "weight_decay": 0.0,
}  # fmt: skip


def test_without_an_optimizer_nothing_is_added_to_an_identity():
    """So that runs of versions without these keys can continue."""
    config = validate(VALID, "test")
    assert config.optimizer is None
    assert config.accumulate_batches == 1
    kept = identity_of(config.plain())
    assert not {"optimizer", "schedule", "clip", "accumulate_batches"} & set(kept)
    given = validate(changed(optimizer="adam", clip={"norm": 1.0}), "test")
    assert {"optimizer", "clip"} <= set(identity_of(given.plain()))


def test_defaults_are_those_of_the_class():
    found = validate(changed(optimizer="adam"), "test").optimizer
    assert found == {**ADAM, "state": "reset"}


def test_a_block_has_other_options_or_another_optimizer():
    values = {
        "name": "adam", "eps": 1e-6, "state": "keep",
        "personal": {"betas": [0.5, 0.6]}, "shared": {"name": "sgd", "momentum": 0.9},
    }  # fmt: skip
    found = validate(changed(optimizer=values), "test").optimizer
    assert found["personal"] == {**ADAM, "eps": 1e-6, "betas": (0.5, 0.6)}
    assert found["shared"] == {
        "name": "sgd", "momentum": 0.9, "dampening": 0.0, "nesterov": False,
    }  # fmt: skip
    assert found["eps"] == 1e-6
    assert found["state"] == "keep"
    short = validate(changed(optimizer={"name": "adam", "shared": "sgd"}), "test")
    assert short.optimizer["shared"]["name"] == "sgd"


def test_a_schedule_and_its_warm_up_by_block():
    values = {
        "name": "cosine", "warmup": 2, "final": 0.05, "rounds": 40, "unit": "step",
        "personal": {"name": "constant"}, "shared": {"warmup": 0},
    }  # fmt: skip
    found = validate(changed(schedule=values), "test").schedule
    assert found["personal"] == {"name": "constant", "warmup": 2}
    assert found["shared"] == {
        "name": "cosine", "final": 0.05, "period": None, "growth": 1.0, "warmup": 0,
    }  # fmt: skip
    assert (found["rounds"], found["unit"]) == (40, "step")


def test_a_schedule_ends_with_the_run_that_is_started_with_it():
    """Its end is a number from then on, so that more rounds do not change steps."""
    config = validate(changed(rounds=7, schedule="cosine"), "test")
    assert config.schedule["rounds"] == 7
    longer = resolve(config.plain(), [("rounds", 9)], "test")
    assert (longer.rounds, longer.schedule["rounds"]) == (9, 7)
    other = resolve(config.plain(), [("schedule.rounds", 9)], "test")
    assert other.schedule["rounds"] == 9


def test_a_printed_configuration_reads_back_equal(tmp_path):
    values = changed(
        data=str(tmp_path),
        optimizer={"name": "adamw", "personal": {"name": "sgd", "momentum": 0.5}},
        schedule={"name": "cosine", "warmup": 1, "personal": {"name": "constant"}},
        clip={"norm": 2.0, "blocks": "separate"},
        accumulate_batches=3,
    )
    config = validate(values, "test")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.plain()), encoding="utf-8")
    again = load(path)
    assert Config.from_plain(again.plain()).plain() == again.plain() == config.plain()


def test_overrides_change_an_option_or_the_whole_optimizer():
    written = changed(optimizer={"name": "adam", "eps": 1e-6})
    one = {"optimizer.eps": 1e-4, "optimizer.personal.eps": 1e-3}
    found = resolve(written, one.items(), "test").optimizer
    assert (found["eps"], found["personal"]["eps"]) == (1e-4, 1e-3)
    found = resolve(written, [("optimizer", "sgd")], "test").optimizer
    assert found["name"] == "sgd"
    assert "eps" not in found
    assert resolve(written, [("optimizer", None)], "test").optimizer is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": "adamm"}, "unknown optimizer 'adamm'; did you mean 'adam'?"),
        ({"optimizer": {"eps": 1}}, "optimizer: needs a name"),
        ({"optimizer": {"name": "adam", "beta": 1}}, "did you mean 'betas'?"),
        ({"optimizer": {"name": "adam", "stat": 1}}, "optimizer itself has state"),
        ({"optimizer": {"name": "adam", "state": "kept"}}, "did you mean 'keep'?"),
        ({"optimizer": {"name": "adam", "lr": 0.1}}, "options of the algorithm"),
        (
            {"optimizer": {"name": "adam", "personal": {"lr": 0.1}}},
            "optimizer.personal.lr: step sizes",
        ),
        ({"optimizer": {"name": "adam", "betas": [2, 0.9]}}, "Invalid beta parameter"),
        ({"optimizer": {"name": "adam", "betas": 0.9}}, "betas"),
        (
            {"optimizer": {"name": "adam", "personal": {"state": "keep"}}},
            "optimizer.personal.state: holds for both blocks; see optimizer.state",
        ),
        ({"optimizer": {"name": "adam", "personal": 3}}, "give a mapping of options"),
        ({"optimizer": {"name": "torch.optim:LBFGS"}}, "LBFGS needs a closure"),
        ({"optimizer": {"name": "sgd", "nesterov": True}}, "no effect without"),
        ({"schedule": "cosinus"}, "unknown schedule 'cosinus'; did you mean 'cosine'?"),
        ({"schedule": {"name": "step"}}, "every: missing"),
        ({"schedule": {"name": "cosine", "warmup": -1}}, "schedule.warmup: must be"),
        ({"schedule": {"name": "cosine", "warmup": True}}, "schedule.warmup: must be"),
        ({"schedule": {"name": "cosine", "rounds": 1.5}}, "schedule.rounds: must be"),
        ({"schedule": {"name": "cosine", "unit": "steps"}}, "did you mean 'step'?"),
        ({"schedule": {"name": "cosine", "growth": 2.0}}, "no effect without period"),
        (
            {"schedule": {"name": "cosine", "personal": {"rounds": 3}}},
            "schedule.personal.rounds: holds for both blocks",
        ),
        ({"clip": {}}, "exactly one of norm, value"),
        ({"clip": {"norm": 0}}, "norm: input should be greater than 0"),
        ({"clip": {"norm": 1, "off": "loss"}}, "did you mean 'of'?"),
        ({"accumulate_batches": 0}, "accumulate_batches: input should be"),
    ],
)
def test_what_is_wrong_is_reported_before_training(values, message):
    assert message in errors_of(changed(**values))
