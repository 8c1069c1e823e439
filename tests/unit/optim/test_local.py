"""The local optimization: budgets, the one loop of steps, and its optimizers."""

import inspect
import sys
from pathlib import Path

import pytest
import torch
import yaml

from fedapm_mpi.algorithms.fedapm import FedAPM
from fedapm_mpi.algorithms.fedsim import FedSim
from fedapm_mpi.cli import main as cli
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.optim.local import LocalBudget, budgets, forbid_tolerance, minimize
from fedapm_mpi.optim.optimizers import optimizers
from fedapm_mpi.plugins import errors as plugin_errors
from tests.support.oracles.in_memory_federation import Federation
from tests.support.oracles.quadratic import DIM_U, DIM_V, Quadratic
from tests.support.processes.cli_runs import FEDSIM, digest_of, experiment

OWN = '''
"""A user's own optimizer, and a method that uses it."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from fedapm_mpi.algorithms.fedsim import FedSim


@dataclass(frozen=True)
class HeavyBall:
    beta: float = 0.9

    def init(self, size):
        return {"velocity": torch.zeros(size), "steps": torch.zeros(1).long()}

    def step(self, vector, gradient, state, lr):
        state["steps"].add_(1)
        state["velocity"].mul_(self.beta).add_(gradient)
        vector.sub_(state["velocity"], alpha=lr)


class HeavyBallFedSim(FedSim):
    local_optimizer = HeavyBall(beta=0.5)


class StillFedSim(FedSim):
    local_optimizer = HeavyBall(beta=0.0)
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in a folder with a user's file, and forget its module afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugin_errors, "LOADED", [])
    (tmp_path / "heavy_ball.py").write_text(OWN)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


def a_problem(seed=1):
    problem = Quadratic().problems()[0]
    generator = torch.Generator().manual_seed(seed)
    problem.shared.copy_(torch.randn(DIM_U, generator=generator))
    problem.personal.copy_(torch.randn(DIM_V, generator=generator))
    return problem


def both(problem):
    return torch.cat([problem.shared, problem.personal])


def test_plain_steps_by_hand():
    found, wanted = a_problem(), a_problem()
    steps = minimize(found, "both", LocalBudget(steps=3), batch_size=0, lr=0.1)
    for _ in range(3):
        gradient = wanted.full_gradient("both").clone()
        wanted.shared.sub_(0.1 * gradient[:DIM_U])
        wanted.personal.sub_(0.1 * gradient[DIM_U:])
    assert steps == 3
    torch.testing.assert_close(both(found), both(wanted), rtol=0, atol=1e-14)


@pytest.mark.parametrize("block", ["shared", "personal"])
def test_one_block_leaves_the_other_alone(block):
    problem = a_problem()
    before = {name: getattr(problem, name).clone() for name in ("shared", "personal")}
    minimize(problem, block, LocalBudget(epochs=2), batch_size=0, lr=0.1)
    for name, old in before.items():
        assert torch.equal(getattr(problem, name), old) == (name != block)


def test_step_sizes_decay_and_hooks_of_each_block():
    """A gradient that a hook sets to one shows the step size alone."""
    problem, start = a_problem(), a_problem()
    seen = []

    def one(gradient, vector):
        loss = start.full_gradient("both")
        place = slice(0, DIM_U) if len(vector) == DIM_U else slice(DIM_U, None)
        seen.append(gradient - loss[place] - 0.5 * both(start)[place])
        gradient.fill_(1.0)

    minimize(
        problem, "both", LocalBudget(steps=1), batch_size=0, lr=0.1, lr_personal=0.01,
        weight_decay=0.5, gradient_hook=one, personal_hook=one,
    )  # fmt: skip
    assert [len(x) for x in seen] == [DIM_U, DIM_V]
    assert float(torch.cat(seen).abs().max()) < 1e-14
    moved = both(start) - both(problem)
    assert torch.allclose(moved[:DIM_U], torch.tensor(0.1, dtype=torch.float64))
    assert torch.allclose(moved[DIM_U:], torch.tensor(0.01, dtype=torch.float64))


def test_several_steps_on_a_batch_and_a_call_after_it():
    problem, calls = a_problem(), []
    steps = minimize(
        problem, "shared", LocalBudget(epochs=4), batch_size=0, lr=0.1,
        steps_per_batch=3, after_batch=lambda: calls.append(problem.shared.clone()),
    )  # fmt: skip
    assert (steps, len(calls)) == (12, 4)
    once = a_problem()
    minimize(once, "shared", LocalBudget(steps=3), batch_size=0, lr=0.1)
    assert torch.equal(calls[0], once.shared)


@pytest.mark.parametrize(("met_after", "wanted"), [(1, 1), (3, 3), (99, 5)])
def test_a_tolerance_ends_a_phase(met_after, wanted):
    epochs = []

    def solved():
        epochs.append(None)
        return len(epochs) == met_after

    budget = LocalBudget(xi=0.1, decay=0.5, max_epochs=5)
    problem = a_problem()
    steps = minimize(problem, "shared", budget, batch_size=0, lr=0.1, solved=solved)
    assert steps == len(epochs) == wanted


class Nothing:
    """A client without samples."""

    shared, personal = torch.ones(2), torch.ones(0)

    def batches(self, phase, budget, size):
        return iter(())


def test_no_samples_no_steps():
    for block in ("shared", "personal", "both"):
        assert minimize(Nothing(), block, LocalBudget(steps=2), batch_size=1, lr=1) == 0


class Recorder:
    """An optimizer that notes its calls."""

    def __init__(self):
        self.states = []

    def init(self, size):
        state = {
            "sum": torch.zeros(size, dtype=torch.float32),
            "n": torch.zeros(1).int(),
        }
        return state

    def step(self, vector, gradient, state, lr):
        state["sum"] += gradient
        state["n"] += 1
        self.states.append(state)
        vector.sub_(gradient, alpha=lr)


def test_the_state_of_an_optimizer_lasts_for_a_phase():
    problem, recorder = a_problem(), Recorder()
    for _ in range(2):
        minimize(
            problem, "both", LocalBudget(steps=3), batch_size=0, lr=0.1,
            optimizer=recorder,
        )  # fmt: skip
    states = {id(state): state for state in recorder.states}
    assert len(states) == 4  # two blocks, two phases
    for state in states.values():
        assert state["sum"].dtype == torch.float64
        assert state["n"].dtype == torch.int32
        assert int(state["n"]) == 3
    assert {len(state["sum"]) for state in states.values()} == {DIM_U, DIM_V}


def test_the_state_lasts_until_a_tolerance_is_met():
    recorder = Recorder()
    budget = LocalBudget(xi=0.1, decay=0.5, max_epochs=5)
    minimize(
        a_problem(), "shared", budget, batch_size=0, lr=0.1, solved=lambda: False,
        optimizer=recorder,
    )  # fmt: skip
    assert int(recorder.states[0]["n"]) == 5


def test_an_optimizer_is_found_by_name_or_in_a_users_file(here):
    assert optimizers.names() == ["sgd"]
    vector = torch.ones(3)
    optimizers.get("sgd")().step(vector, torch.full((3,), 2.0), {}, 0.25)
    assert vector.tolist() == [0.5] * 3
    own = optimizers.get("./heavy_ball.py:HeavyBall")(beta=0.5)
    found, wanted = a_problem(), a_problem()
    minimize(found, "shared", LocalBudget(steps=4), batch_size=0, lr=0.1, optimizer=own)
    velocity = torch.zeros(DIM_U, dtype=torch.float64)
    for _ in range(4):
        velocity = 0.5 * velocity + wanted.full_gradient("shared")
        wanted.shared.sub_(velocity, alpha=0.1)
    assert torch.equal(found.shared, wanted.shared)
    with pytest.raises(ConfigError, match="unknown optimizer 'sdg'; did you mean"):
        optimizers.get("sdg")


def test_a_method_trains_with_an_optimizer_from_a_single_file(toy, here):
    digests = {}
    for name in ("fedsim", "HeavyBallFedSim", "StillFedSim"):
        algorithm = {"name": name if name == "fedsim" else f"./heavy_ball.py:{name}"}
        values = experiment(toy["features"], algorithm=algorithm | FEDSIM)
        Path("config.yaml").write_text(yaml.safe_dump(values))
        words = ["train", "config.yaml", "--progress", "none", "--run-dir", name]
        assert cli.main(words) == 0
        digests[name] = digest_of(Path(name))
    assert digests["StillFedSim"] == digests["fedsim"], "without momentum it is SGD"
    assert digests["HeavyBallFedSim"] != digests["fedsim"]


ALTERNATE = {
    "personal_work": LocalBudget(epochs=2),
    "shared_work": LocalBudget(xi=1e-9, decay=0.9, max_epochs=3),
}
OPTIONS = {"rho": 0.1, "sigma": 0.1, "lr_personal": 0.1, "lr_shared": 0.1}


@pytest.mark.parametrize("name", ["fedsim", "fedapm"])
def test_an_optimizer_given_in_code(name):
    """It stays when the penalty changes, and the method given first keeps its own."""
    if name == "fedsim":
        plain = FedSim(lr=0.1, batch_size=0, work=LocalBudget(epochs=3))
    else:
        plain = FedAPM(**OPTIONS, batch_size=0, **ALTERNATE)
    recorder = Recorder()
    other = plain.with_local_optimizer(recorder)
    assert plain.local_optimizer is not recorder
    if name == "fedapm":
        other = other.with_penalty(0.1)
        assert other.local_optimizer is recorder
    federations = [Federation(one, Quadratic()) for one in (plain, other)]
    for federation in federations:
        federation.round([0, 3])
    assert recorder.states
    assert torch.equal(federations[0].consensus, federations[1].consensus)


def test_budgets_and_tolerances():
    apm = FedAPM(**OPTIONS, batch_size=0, **ALTERNATE)
    assert budgets(apm) == ALTERNATE
    with pytest.raises(ValueError, match="shared_work takes epochs or steps"):
        forbid_tolerance(**budgets(apm))
    for wrong, message in (
        ({}, "exactly one"),
        ({"epochs": 1, "steps": 1}, "exactly one"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"xi": 0.1}, "belong together"),
        ({"epochs": 1, "decay": 0.5, "max_epochs": 2}, "belong together"),
        ({"xi": 0.1, "decay": 1.0, "max_epochs": 2}, r"in \(0, 1\)"),
        ({"xi": 0.0, "decay": 0.5, "max_epochs": 2}, "xi must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            LocalBudget(**wrong)


def test_no_method_has_a_loop_of_its_own():
    """The one place that asks for mini-batches is `minimize`."""
    from fedapm_mpi.algorithms import base

    folder = Path(inspect.getfile(base)).parent
    loops = [p.name for p in folder.glob("*.py") if ".batches(" in p.read_text()]
    assert loops == []
