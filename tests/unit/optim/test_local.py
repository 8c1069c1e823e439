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
from fedapm_mpi.optim.local import LocalBudget, minimize
from fedapm_mpi.optim.optimizers import optimizers
from fedapm_mpi.optim.solver import BlockRules, LocalSolver, SolverRules
from fedapm_mpi.plugins import errors as plugin_errors
from tests.support.oracles.in_memory_federation import Federation
from tests.support.oracles.quadratic import DIM_U, DIM_V, Quadratic
from tests.support.processes.cli_runs import FEDSIM, digest_of, experiment

OWN = '''
"""A user's own optimizer."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class HeavyBall:
    beta: float = 0.9

    def init(self, vector):
        return {"velocity": torch.zeros_like(vector), "steps": torch.zeros(1).long()}

    def step(self, vector, gradient, state, lr):
        state["steps"].add_(1)
        state["velocity"].mul_(self.beta).add_(gradient)
        vector.sub_(state["velocity"], alpha=lr)
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

    shared, personal, solver = torch.ones(2), torch.ones(0), LocalSolver()

    def batches(self, phase, budget, size):
        return iter(())


def test_no_samples_no_steps():
    for block in ("shared", "personal", "both"):
        assert minimize(Nothing(), block, LocalBudget(steps=2), batch_size=1, lr=1) == 0


class Recorder:
    """An optimizer that notes its calls."""

    def __init__(self):
        self.states = []

    def init(self, vector):
        return {"sum": torch.zeros_like(vector), "n": torch.zeros(1).int()}

    def step(self, vector, gradient, state, lr):
        state["sum"] += gradient
        state["n"] += 1
        self.states.append(state)
        vector.sub_(gradient, alpha=lr)


def stepped_by(optimizer, problem=None):
    """Return a problem whose blocks are both stepped by an optimizer."""
    problem = a_problem() if problem is None else problem
    rules = BlockRules(optimizer)
    problem.solver = LocalSolver(SolverRules(shared=rules, personal=rules))
    return problem


def test_the_state_of_an_optimizer_lasts_for_a_phase():
    recorder = Recorder()
    problem = stepped_by(recorder)
    for _ in range(2):
        minimize(problem, "both", LocalBudget(steps=3), batch_size=0, lr=0.1)
    states = {id(state): state for state in recorder.states}
    assert len(states) == 4  # two blocks, two phases
    assert all(int(state["n"]) == 3 for state in states.values())
    assert {len(state["sum"]) for state in states.values()} == {DIM_U, DIM_V}


def test_the_state_lasts_until_a_tolerance_is_met():
    recorder = Recorder()
    budget = LocalBudget(xi=0.1, decay=0.5, max_epochs=5)
    minimize(
        stepped_by(recorder), "shared", budget, batch_size=0, lr=0.1,
        solved=lambda: False,
    )  # fmt: skip
    assert int(recorder.states[0]["n"]) == 5


def test_an_optimizer_is_found_by_name_or_in_a_users_file(here):
    assert {"sgd", "adam", "adamw"} <= set(optimizers.names())
    vector = torch.ones(3)
    optimizers.get("sgd")().step(vector, torch.full((3,), 2.0), {}, 0.25)
    assert vector.tolist() == [0.5] * 3
    own = optimizers.get("./heavy_ball.py:HeavyBall")(beta=0.5)
    found, wanted = stepped_by(own), a_problem()
    minimize(found, "shared", LocalBudget(steps=4), batch_size=0, lr=0.1)
    velocity = torch.zeros(DIM_U, dtype=torch.float64)
    for _ in range(4):
        velocity = 0.5 * velocity + wanted.full_gradient("shared")
        wanted.shared.sub_(velocity, alpha=0.1)
    assert torch.equal(found.shared, wanted.shared)
    with pytest.raises(ConfigError, match="unknown optimizer 'sdg'; did you mean"):
        optimizers.get("sdg")


def test_a_method_trains_with_an_optimizer_from_a_single_file(toy, here):
    digests = {}
    for beta in (None, 0.5, 0.0):
        values = experiment(toy["features"], algorithm={"name": "fedsim"} | FEDSIM)
        if beta is not None:
            name = "./heavy_ball.py:HeavyBall"
            values["optimizer"] = {"name": name, "beta": beta}
        Path("config.yaml").write_text(yaml.safe_dump(values))
        words = ["train", "config.yaml", "--progress", "none", "--run-dir", f"{beta}"]
        assert cli.main(words) == 0
        digests[beta] = digest_of(Path(f"{beta}"))
    assert digests[0.0] == digests[None], "without momentum it is SGD"
    assert digests[0.5] != digests[None]


ALTERNATE = {
    "personal_work": LocalBudget(epochs=2),
    "shared_work": LocalBudget(xi=1e-9, decay=0.9, max_epochs=3),
}
OPTIONS = {"rho": 0.1, "sigma": 0.1, "lr_personal": 0.1, "lr_shared": 0.1}


@pytest.mark.parametrize("name", ["fedsim", "fedapm"])
def test_every_phase_of_a_method_uses_the_optimizer(name):
    if name == "fedsim":
        method = FedSim(lr=0.1, batch_size=0, work=LocalBudget(epochs=3))
    else:
        method = FedAPM(**OPTIONS, batch_size=0, **ALTERNATE)
    recorder = Recorder()
    federations = [Federation(method, Quadratic()) for _ in range(2)]
    for problem in federations[1].problems:
        stepped_by(recorder, problem)
    for federation in federations:
        federation.round([0, 3])
    trained = {len(state["sum"]) for state in recorder.states}
    assert trained == {DIM_U, DIM_V}
    assert torch.equal(federations[0].consensus, federations[1].consensus)


def test_no_method_has_a_loop_of_its_own():
    """The one place that asks for mini-batches is `minimize`."""
    from fedapm_mpi.algorithms import base

    folder = Path(inspect.getfile(base)).parent
    loops = [p.name for p in folder.glob("*.py") if ".batches(" in p.read_text()]
    assert loops == []
