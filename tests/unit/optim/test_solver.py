"""How a client steps: schedules, clipping, accumulation and kept states."""

import pytest
import torch

from fedapm_mpi.algorithms.base import LocalBudget
from fedapm_mpi.algorithms.ditto import Ditto
from fedapm_mpi.algorithms.scaffold import Scaffold
from fedapm_mpi.optim.clip_options import Clip
from fedapm_mpi.optim.local import minimize
from fedapm_mpi.optim.optimizers import optimizers
from fedapm_mpi.optim.optimizers.sgd import SGD
from fedapm_mpi.optim.schedules import schedules
from fedapm_mpi.optim.solver import (
    BlockRules,
    LocalSolver,
    Pace,
    SolverRules,
    is_optimizer_state,
)
from tests.support.oracles.in_memory_federation import Federation
from tests.support.oracles.least_squares import LeastSquares
from tests.support.oracles.quadratic import DIM_U, DIM_V, Quadratic

ADAM = optimizers.get("adam")()
LINEAR = schedules.get("linear")()


def a_problem(rules=None, round_index=None, kept=None):
    problem = Quadratic().problems()[0]
    generator = torch.Generator().manual_seed(1)
    problem.shared.copy_(torch.randn(DIM_U, generator=generator))
    problem.personal.copy_(torch.randn(DIM_V, generator=generator))
    problem.solver = LocalSolver(rules, round_index, kept)
    return problem


def same(**changes):
    return BlockRules(**changes)


def test_a_plain_solver_is_plain():
    assert LocalSolver().plain
    assert LocalSolver(SolverRules(accumulate_batches=3)).plain
    for rules in (
        SolverRules(shared=same(optimizer=ADAM)),
        SolverRules(personal=same(optimizer=SGD(momentum=0.5))),
        SolverRules(shared=same(pace=Pace(LINEAR, 3))),
        SolverRules(clip=Clip(norm=1.0)),
    ):
        assert not LocalSolver(rules).plain


def test_the_schedule_of_each_block_scales_its_step():
    rules = SolverRules(
        shared=same(pace=Pace(LINEAR, 4)),
        personal=same(pace=Pace(schedules.get("exponential")(gamma=0.5), 4)),
    )
    start, found = a_problem(), a_problem(rules, round_index=3)
    minimize(found, "both", LocalBudget(steps=1), batch_size=0, lr=0.1)
    gradient = start.full_gradient("both")
    wanted = start.shared - 0.1 * 0.25 * gradient[:DIM_U]
    torch.testing.assert_close(found.shared, wanted, rtol=1e-14, atol=1e-14)
    wanted = start.personal - 0.1 * 0.125 * gradient[DIM_U:]
    torch.testing.assert_close(found.personal, wanted, rtol=1e-14, atol=1e-14)


def test_without_a_round_step_sizes_are_those_configured():
    """As in fine-tuning, which has the same step size in every evaluation."""
    rules = SolverRules(shared=same(pace=Pace(LINEAR, 4)))
    found, plain = a_problem(rules), a_problem()
    for problem in (found, plain):
        minimize(problem, "shared", LocalBudget(steps=2), batch_size=0, lr=0.1)
    assert torch.equal(found.shared, plain.shared)


@pytest.mark.parametrize("steps_per_batch", [1, 2])
def test_a_schedule_by_step_spreads_a_phase_over_the_round(steps_per_batch):
    rules = SolverRules(shared=same(pace=Pace(LINEAR, 4, unit="step")))
    found, plain = a_problem(rules, round_index=1), a_problem()
    budget = LocalBudget(epochs=4)
    minimize(
        found, "shared", budget, batch_size=0, lr=0.1, steps_per_batch=steps_per_batch
    )
    total = 4 * steps_per_batch
    for step in range(total):
        factor = 1 - (1 + step / total) / 4
        plain.shared.sub_(plain.full_gradient("shared"), alpha=0.1 * factor)
    torch.testing.assert_close(found.shared, plain.shared, rtol=1e-13, atol=1e-13)


def test_the_direction_is_clipped_after_the_hooks_and_the_loss_before():
    seen = {}
    for of in ("direction", "loss"):
        problem = a_problem(SolverRules(clip=Clip(norm=0.01, of=of)))
        start = problem.shared.clone()
        minimize(
            problem, "shared", LocalBudget(steps=1), batch_size=0, lr=1.0,
            gradient_hook=lambda gradient, _: gradient.add_(5.0),
        )  # fmt: skip
        seen[of] = start - problem.shared
        assert problem.solver.clipped == problem.solver.steps == 1
    assert float(seen["direction"].norm()) == pytest.approx(0.01)
    assert float((seen["loss"] - 5.0).norm()) == pytest.approx(0.01)


def test_clipped_steps_are_counted():
    start = a_problem()
    norms = []
    for _ in range(6):
        gradient = start.full_gradient("both")
        norms.append(float(gradient.norm()))
        start.shared.sub_(gradient[:DIM_U], alpha=0.1)
        start.personal.sub_(gradient[DIM_U:], alpha=0.1)
    bound = (norms[2] + norms[3]) / 2
    problem = a_problem(SolverRules(clip=Clip(norm=norms[0] * 0.999999)))
    minimize(problem, "both", LocalBudget(steps=6), batch_size=0, lr=0.1)
    assert (problem.solver.steps, problem.solver.clipped) == (6, 1)
    problem = a_problem(SolverRules(clip=Clip(norm=bound)))
    minimize(problem, "both", LocalBudget(steps=6), batch_size=0, lr=0.1)
    assert 3 <= problem.solver.clipped < 6


@pytest.mark.parametrize("budget", [LocalBudget(steps=3), LocalBudget(epochs=2)])
def test_accumulated_batches_are_one_large_batch(budget):
    """Of six samples in batches of two: three batches make a step of six samples."""
    weights = [1.0]
    small = LeastSquares(weights, sizes=[6]).problems()[0]
    large = LeastSquares(weights, sizes=[6]).problems()[0]
    small.solver = LocalSolver(SolverRules(accumulate_batches=3))
    steps = {}
    for name, problem, size in (("small", small, 2), ("large", large, 6)):
        problem.shared.fill_(1.0)
        steps[name] = minimize(problem, "shared", budget, batch_size=size, lr=0.3)
    assert steps["small"] == steps["large"] == (budget.steps or budget.epochs)
    torch.testing.assert_close(small.shared, large.shared, rtol=1e-13, atol=1e-13)


def test_the_last_step_of_a_phase_may_have_fewer_batches():
    problem = LeastSquares([1.0], sizes=[5]).problems()[0]
    problem.solver = LocalSolver(SolverRules(accumulate_batches=2))
    problem.shared.fill_(1.0)
    plain = LeastSquares([1.0], sizes=[5]).problems()[0]
    plain.shared.fill_(1.0)
    budget = LocalBudget(epochs=1)
    assert minimize(problem, "shared", budget, batch_size=2, lr=0.1) == 2
    batches = list(plain.batches("shared", budget, 2))
    first = sum(plain.gradient("shared", rows).clone() for rows in batches[:2]) / 2
    plain.shared.sub_(first, alpha=0.1)
    plain.shared.sub_(plain.gradient("shared", batches[2]), alpha=0.1)
    torch.testing.assert_close(problem.shared, plain.shared, rtol=1e-14, atol=1e-14)


# Kept states ------------------------------------------------------------------------


def kept_rules(optimizer=ADAM):
    return SolverRules(same(optimizer=optimizer), same(optimizer=optimizer), keep=True)


VECTORS = {
    "shared": torch.zeros(DIM_U, dtype=torch.float64),
    "personal": torch.zeros(DIM_V, dtype=torch.float64),
}


@pytest.mark.parametrize("name", ["adam", "adagrad", "nadam", "rmsprop", "sgd"])
def test_a_kept_state_makes_two_participations_one(name):
    options = {"momentum": 0.9, "dampening": 0.5} if name == "sgd" else {}
    rules = kept_rules(optimizers.get(name)(**options))
    kept = rules.new_client_state([("", "both")], VECTORS)
    assert all(is_optimizer_state(key) for key in kept)
    twice, once = a_problem(rules, 0, kept), a_problem(rules)
    for t in range(2):
        twice.solver = LocalSolver(rules, t, kept)
        minimize(twice, "both", LocalBudget(steps=3), batch_size=0, lr=0.01)
    minimize(once, "both", LocalBudget(steps=6), batch_size=0, lr=0.01)
    assert torch.equal(twice.shared, once.shared)
    assert torch.equal(twice.personal, once.personal)
    assert int(kept["optimizer.shared.steps_taken"]) == 6
    reset = a_problem(SolverRules(rules.shared, rules.personal))
    for _ in range(2):
        minimize(reset, "both", LocalBudget(steps=3), batch_size=0, lr=0.01)
    assert not torch.equal(reset.shared, once.shared), "the control"


def test_without_keep_nothing_is_kept():
    assert (
        SolverRules(same(optimizer=ADAM)).new_client_state([("", "both")], VECTORS)
        == {}
    )


def test_only_blocks_that_are_trained_have_a_state():
    rules = kept_rules()
    states = rules.new_client_state([("", "shared"), ("own", "both")], VECTORS)
    blocks = {key.removeprefix("optimizer.").rpartition(".")[0] for key in states}
    assert blocks == {"shared", "own.shared", "own.personal"}
    empty = VECTORS | {"personal": torch.zeros(0)}
    states = rules.new_client_state([("", "both")], empty)
    assert all(key.startswith("optimizer.shared.") for key in states)


def test_both_models_of_ditto_keep_a_state_of_their_own():
    method = Ditto(
        lam=0.5, lr_global=0.01, lr_personal=0.02, batch_size=0,
        global_work=LocalBudget(steps=2), personal_work=LocalBudget(steps=3),
    )  # fmt: skip
    rules = kept_rules()
    empty = VECTORS | {"personal": torch.zeros(0, dtype=torch.float64)}
    kept = rules.new_client_state(method.optimizer_states(), empty)
    squares = LeastSquares([1.0], sizes=[6])
    federation = Federation(method, squares)
    federation.problems[0].solver = LocalSolver(rules, 0, kept)
    federation.round([0])
    assert int(kept["optimizer.shared.steps_taken"]) == 2
    assert int(kept["optimizer.own.shared.steps_taken"]) == 3
    assert not torch.equal(
        kept["optimizer.shared.exp_avg"], kept["optimizer.own.shared.exp_avg"]
    )


class Growing:
    """An optimizer whose state gets another tensor in its second step."""

    def init(self, vector):
        return {"n": torch.zeros(())}

    def step(self, vector, gradient, state, lr):
        if state["n"] > 0:
            state["more"] = torch.zeros(1)
        state["n"] += 1


class Counting:
    """An optimizer whose state is no tensor."""

    def init(self, vector):
        return {"n": 0}

    def step(self, vector, gradient, state, lr):
        state["n"] += 1


def test_states_that_cannot_be_kept_are_refused():
    with pytest.raises(ValueError, match="its state 'n' is int"):
        kept_rules(Counting()).new_client_state([("", "both")], VECTORS)
    rules = kept_rules(Growing())
    kept = rules.new_client_state([("", "both")], VECTORS)
    problem = a_problem(rules, 0, kept)
    with pytest.raises(ValueError, match="with state: keep they must be the same"):
        minimize(problem, "shared", LocalBudget(steps=3), batch_size=0, lr=0.1)


# Methods ----------------------------------------------------------------------------


@pytest.mark.parametrize("rules", [
    SolverRules(same(optimizer=SGD(momentum=0.0), pace=Pace(LINEAR, 10))),
    SolverRules(same(optimizer=optimizers.get("adam")())),
    SolverRules(clip=Clip(norm=0.05)),
])  # fmt: skip
def test_scaffolds_control_variate_is_the_mean_gradient_under_any_solver(rules):
    """The way from x to y over K eta is that mean for plain SGD alone."""
    method = Scaffold(lr=0.1, batch_size=2, work=LocalBudget(epochs=2))
    squares = LeastSquares([1.0], sizes=[6])
    federation = Federation(method, squares)
    seen = []
    problem = federation.problems[0]
    gradient_of = problem.gradient

    def gradient(part, batch):
        found = gradient_of(part, batch)
        seen.append(found.clone())
        return found

    problem.gradient = gradient
    problem.solver = LocalSolver(rules, 1)
    federation.round([0])
    wanted = torch.stack(seen).mean(0)
    found = federation.clients[0]["control"]
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-13)


def test_a_plain_control_variate_is_that_mean_as_well():
    method = Scaffold(lr=0.1, batch_size=2, work=LocalBudget(epochs=2))
    found = []
    for rules in (SolverRules(), SolverRules(clip=Clip(norm=1e9))):
        federation = Federation(method, LeastSquares([1.0], sizes=[6]))
        for _ in range(2):
            federation.problems[0].solver = LocalSolver(rules)
            federation.round([0])
        found.append(federation.clients[0]["control"])
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
