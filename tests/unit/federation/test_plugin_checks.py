"""What a user's own parts return, checked one by one; built-in parts are trusted."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.federation import plugin_checks as checks
from fedapm_mpi.optim.clip_options import Clip
from fedapm_mpi.optim.optimizers.sgd import SGD
from fedapm_mpi.optim.schedules.constant import Constant
from fedapm_mpi.optim.solver import BlockRules, LocalSolver, Pace, SolverRules

OWN = {"name": "mine:Part"}


def scheme(found):
    return SimpleNamespace(choose=lambda rng, clients: found)


def test_built_in_parts_are_not_checked():
    checks.check_state({"name": "fedapm"}, None, 3, 2)
    checks.check_methods("participation", {"name": "random"}, object(), "choose")
    with pytest.raises(ConfigError, match="has no choose"):
        checks.check_methods("participation", OWN, object(), "choose")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (None, "new_client gave None, not a dict of tensors"),
        ({"shared": torch.ones(3), "personal": [1, 2]}, "as 'personal', not a tensor"),
        ({"shared": torch.ones(3), "personal": torch.ones(3)}, r"of shape \(2,\)"),
        ({"personal": torch.ones(2)}, r"must give 'shared' of shape \(3,\)"),
    ],
)
def test_states(state, words):
    with pytest.raises(ConfigError, match=words):
        checks.check_state(OWN, state, 3, 2)


def test_a_state_that_is_right():
    state = {"shared": torch.ones(3), "personal": torch.ones(2), "more": torch.ones(1)}
    checks.check_state(OWN, state, 3, 2)


@pytest.mark.parametrize(
    "found", [None, [0.5], [8], [-1], [1, 1], [5, 2], [[1], [2]], "12", [True, False]]
)
def test_participants_that_cannot_be(found):
    rng = np.random.default_rng(0)
    with pytest.raises(FedAPMError, match="mine:Part"):
        checks.check_participants(OWN, scheme(found), 8, rng)


@pytest.mark.parametrize("found", [[], [2, 5], np.array([0, 7]), (1,)])
def test_participants_that_can(found):
    rng = np.random.default_rng(0)
    chosen = checks.check_participants(OWN, scheme(found), 8, rng)
    assert chosen.dtype == np.int64
    assert chosen.tolist() == list(found)


def test_sums_have_a_length_and_are_numbers():
    total = checks.check_total(OWN, np.array([1.0, 2.0]), 2)
    assert total.tolist() == [1, 2]
    for wrong in (None, np.ones(3), "x"):
        with pytest.raises(FedAPMError, match="mine:Part"):
            checks.check_total(OWN, wrong, 2)


RULES = {
    "optimizer": SolverRules(shared=BlockRules(SGD(momentum=0.9))),
    "schedule": SolverRules(personal=BlockRules(pace=Pace(Constant(), 9))),
    "clip": SolverRules(clip=Clip(norm=1.0)),
    "accumulate_batches": SolverRules(accumulate_batches=2),
}


@pytest.mark.parametrize("part", [OWN, {"name": "fedapm"}])
@pytest.mark.parametrize("key", RULES)
def test_rules_that_no_step_followed_are_refused(key, part):
    """In built-in algorithms as well: nothing of it is a user's fault, but known."""
    problem = SimpleNamespace(solver=LocalSolver(RULES[key]))
    with pytest.raises(FedAPMError) as caught:
        checks.check_solver_used(part, RULES[key], problem, 8)
    assert part["name"] in str(caught.value)
    assert key in str(caught.value)
    problem.solver.steps = 1
    checks.check_solver_used(part, RULES[key], problem, 8)


def test_nothing_is_refused_without_rules_or_without_samples():
    """A client without samples takes no steps; the defaults need none."""
    problem = SimpleNamespace(solver=LocalSolver())
    checks.check_solver_used(OWN, SolverRules(), problem, 8)
    checks.check_solver_used(OWN, RULES["clip"], problem, 0)
