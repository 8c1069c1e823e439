"""Data, a model and a method's name make a run that learns."""

import pytest

from fedapm_mpi import load_run, train
from fedapm_mpi.algorithms.base import algorithms

CHANCE = 1 / 3
ROUNDS = 15
"""Half of the default, for the sake of time."""


@pytest.mark.parametrize("name", algorithms.builtin_names())
def test_a_method_alone_learns(name, toy, tmp_path):
    values = {"data": str(toy["features"]), "model": "mlp", "algorithm": name}
    run = train(
        values, run_dir=tmp_path / "run", rounds=ROUNDS, evaluation={"every": ROUNDS}
    )
    last = load_run(run.directory).records[-1]
    assert last["accuracy"] > 2 * CHANCE
