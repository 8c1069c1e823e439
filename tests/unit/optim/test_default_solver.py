import pytest

from fedapm_mpi.optim.default_solver import (
    HALF_WORK,
    WORK,
    StepSizeOption,
    default_optimizer,
    default_schedule,
)


@pytest.mark.parametrize(
    ("rounds", "warmup"), [(1, 0), (9, 0), (10, 1), (19, 1), (20, 2), (500, 2)]
)
def test_a_warm_up_leaves_most_of_a_run(rounds, warmup):
    assert default_schedule(rounds)["warmup"] == warmup


def test_an_inverse_option_gives_the_step_size_that_it_is_asked_for():
    assert StepSizeOption().value(0.25, 3.0) == 0.25
    zeta = StepSizeOption(inverse=True).value(0.25, 3.0)
    assert 1 / (3.0 + zeta) == 0.25
    assert StepSizeOption(inverse=True).value(0.25, 8.0) == 0  # and no smaller


def test_alternating_blocks_take_as_many_passes_as_joint_ones():
    assert HALF_WORK.epochs is not None
    assert 2 * HALF_WORK.epochs == WORK.epochs


def test_callers_cannot_change_the_defaults():
    default_optimizer()["betas"].append(0)
    assert len(default_optimizer()["betas"]) == 2
