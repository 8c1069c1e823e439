"""Data, a model and a method's name make a run that learns."""

import pytest

from fedapm_mpi import load_run, train
from fedapm_mpi.config.schema import DEFAULT_ROUNDS

CHANCE = 1 / 3


@pytest.mark.parametrize("name", ["fedapm", "local", "fedavg", "ditto"])
def test_a_method_alone_learns(name, toy, tmp_path):
    values = {"data": str(toy["features"]), "model": "mlp", "algorithm": name}
    trained = train(values, run_dir=tmp_path / "run")
    last = load_run(trained.directory).records[-1]
    assert last["round"] == DEFAULT_ROUNDS
    assert last["accuracy"] > 2 * CHANCE
