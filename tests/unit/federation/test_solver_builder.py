"""Rules of the local steps, built from a configuration."""

import pytest
import torch

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.config.schema import Config
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.federation.solver_builder import build_solver, solver_warnings
from fedapm_mpi.optim.clip_options import Clip
from fedapm_mpi.optim.optimizers._torch import TorchOptimizer
from fedapm_mpi.optim.optimizers.sgd import SGD
from fedapm_mpi.optim.solver import SolverRules, is_optimizer_state
from fedapm_mpi.training.context import open_context
from tests.support.own_files import here, write  # noqa: F401
from tests.support.processes.cli_runs import experiment
from tests.support.valid_config import changed


def rules(**values) -> SolverRules:
    return build_solver(validate(changed(**values), "test"))


def test_without_options_it_is_plain():
    assert rules() == SolverRules()


def test_options_reach_the_rules():
    found = rules(
        optimizer={"name": "adam", "state": "keep", "personal": {"name": "sgd"}},
        schedule={"name": "linear", "warmup": 1, "shared": {"name": "constant"}},
        clip={"value": 0.5, "of": "loss"},
        accumulate_batches=2,
    )
    assert isinstance(found.shared.optimizer, TorchOptimizer)
    assert found.personal.optimizer == SGD()
    assert found.keep
    assert found.clip == Clip(value=0.5, of="loss")
    assert found.accumulate_batches == 2
    # Three rounds, one of which is the warm-up.
    assert found.factors(0) == {"shared": 0.5, "personal": 0.5}
    assert found.factors(2) == {"shared": 1.0, "personal": 0.5}


def test_a_schedule_ends_with_the_run_unless_its_rounds_are_given():
    assert rules(schedule="linear").factors(2)["shared"] == pytest.approx(1 / 3)
    longer = rules(schedule={"name": "linear", "rounds": 6})
    assert longer.factors(2)["shared"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("schedule", "shown"),
    [
        ({"name": "linear"}, "0 (shared), 0 (personal)"),
        ({"name": "cosine", "final": 0.25, "warmup": 1}, "0.25 (shared), 0.25 (pers"),
        ({"name": "cosine", "shared": "constant"}, "0 (personal)"),
    ],
)
def test_a_run_that_is_longer_than_its_schedule_says_so(schedule, shown):
    config = validate(changed(rounds=9, schedule=schedule | {"rounds": 6}), "test")
    (found,) = solver_warnings(config, build_solver(config))
    begin = "the schedule ends after 6 of 9 rounds; in round 7 its factor of the step"
    assert found.startswith(begin)
    assert f"is {shown}" in found


@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "linear", "rounds": 9},
        {"name": "constant", "warmup": 2, "rounds": 6},
        {"name": "cosine", "period": 2.0, "rounds": 6},
        {"name": "exponential", "gamma": 0.9, "rounds": 6},
        {"name": "step", "every": 3, "rounds": 6},
        None,
    ],
)
def test_no_word_on_schedules_that_do_not_end_before_the_run(schedule):
    config = validate(changed(rounds=9, schedule=schedule), "test")
    assert solver_warnings(config, build_solver(config)) == []


@pytest.mark.parametrize("more", [{}, {"rounds": 4}])
def test_a_warm_up_that_leaves_nothing_is_refused(more):
    schedule = {"name": "cosine", "warmup": 4} | more
    with pytest.raises(ConfigError, match="a warm-up of 4 rounds leaves nothing of"):
        rules(schedule=schedule)


def context(toy, **values):
    config = validate(experiment(toy["features"], **values), "test")
    return open_context(Config.from_plain(config.plain()), Serial())


def test_kept_states_belong_to_the_clients_state(toy):
    found = context(toy, optimizer={"name": "adam", "state": "keep"})
    group = found.groups.members[0]
    state = found.new_client(group)
    kept = {name: state[name] for name in state if is_optimizer_state(name)}
    assert set(kept) == {
        f"optimizer.{block}.{name}"
        for block in ("shared", "personal")
        for name in ("exp_avg", "exp_avg_sq", "step", "steps_taken")
    }
    assert kept["optimizer.shared.exp_avg"].shape == state["shared"].shape
    assert kept["optimizer.personal.exp_avg"].dtype == torch.float32
    fresh = context(toy, optimizer={"name": "adam"})
    assert not any(is_optimizer_state(name) for name in fresh.new_client(group))


OWN = """
class Counting:
    def init(self, vector):
        return {"n": 0}

    def step(self, vector, gradient, state, lr):
        state["n"] += 1


class NoStep:
    def init(self, vector):
        return {}
"""


def test_an_optimizer_of_the_users_that_cannot_be_kept_is_refused(toy):
    write("own_optimizers.py", OWN)
    own = {"name": "./own_optimizers.py:Counting", "state": "keep"}
    with pytest.raises(
        ConfigError, match=r"optimizer '\./own_optimizers\.py:Counting': its state"
    ):
        context(toy, optimizer=own)
    with pytest.raises(ConfigError, match="has no step"):
        context(toy, optimizer={"name": "./own_optimizers.py:NoStep"})


def test_a_block_may_differ_in_one_option():
    found = rules(optimizer={"name": "sgd", "shared": {"momentum": 0.5}})
    assert found.personal.optimizer == SGD()
    assert found.shared.optimizer == SGD(momentum=0.5)
