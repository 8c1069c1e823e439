"""FedAPM comes to rest at the closed form under other local steps than plain SGD.

Whatever the optimizer, a phase that no longer moves is at a point where the gradient
of its local problem is zero, so the fixed point of the method is that of plain SGD.
"""

import pytest

from fedapm_mpi.optim.clip_options import Clip
from fedapm_mpi.optim.optimizers import optimizers
from fedapm_mpi.optim.optimizers.sgd import SGD
from fedapm_mpi.optim.schedules import schedules
from fedapm_mpi.optim.solver import BlockRules, Pace, SolverRules
from tests.support.oracles.in_memory_federation import (
    Federation,
    descending,
    start_at_random,
)
from tests.support.oracles.quadratic import Quadratic

ADAM = optimizers.get("adam")()


def both(optimizer=None, schedule=None, rounds=400, clip=None):
    pace = None if schedule is None else Pace(schedule, rounds)
    block = BlockRules(optimizer or SGD(), pace)
    return SolverRules(block, block, clip)


def federation(solver, step, work):
    algorithm = descending(0.1, step=step, work=work)
    found = Federation(algorithm, Quadratic())
    start_at_random(found, algorithm.rho)
    found.solver = solver
    return found


def error_after(rounds, solver, step=1.0, work=10):
    found = federation(solver, step, work)
    found.run(rounds)
    return found.error()


@pytest.mark.parametrize(
    ("momentum", "nesterov", "step", "work", "rounds"),
    [(0.5, False, 1.0, 10, 160), (0.9, False, 0.5, 20, 90), (0.9, True, 0.3, 20, 110)],
)
def test_momentum_reaches_the_closed_form(momentum, nesterov, step, work, rounds):
    solver = both(SGD(momentum=momentum, nesterov=nesterov))
    assert error_after(rounds, solver, step, work) < 1e-8


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.get("linear")(final=0.2),
        schedules.get("cosine")(final=0.2),
        schedules.get("step")(every=100, gamma=0.7),
    ],
)
def test_a_decaying_step_that_stays_above_zero_reaches_the_closed_form(schedule):
    assert error_after(400, both(schedule=schedule)) < 1e-8


def test_a_step_that_decays_to_zero_too_soon_does_not():
    """The control: clients that do not move do not solve their local problems."""
    schedule = schedules.get("linear")(final=0.0)
    assert error_after(100, both(schedule=schedule, rounds=30)) > 1e-3


def test_adam_needs_a_decaying_step_to_reach_the_closed_form():
    """With a constant one its steps, about as long as the step size, do not end."""
    decaying = schedules.get("exponential")(gamma=0.93)
    assert error_after(230, both(ADAM, decaying), step=0.2) < 1e-8
    assert error_after(40, both(ADAM), step=0.2) > 1e-2


def test_a_clipped_direction_does_not_move_the_fixed_point():
    """The gradient of the whole local problem goes to zero, so the bound is not met."""
    solver = both(clip=Clip(norm=0.2))
    found = federation(solver, 1.0, 10)
    found.run(1)
    assert all(problem.solver.clipped > 0 for problem in found.problems)
    found.run(219)
    assert found.error() < 1e-8
    assert not any(problem.solver.clipped for problem in found.problems)


def test_a_clipped_loss_does_move_it():
    """The control: clients' own gradients are not zero where their weighted sum is."""
    found = federation(both(clip=Clip(norm=0.2, of="loss")), 1.0, 10)
    found.run(200)
    error = found.error()
    assert error > 1e-2
    found.run(40)
    assert found.error() == pytest.approx(error, rel=1e-3), "at rest"
