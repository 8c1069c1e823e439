"""Every rank builds the same model, or all end before training."""

import pytest

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.training.runner import train
from tests.support.processes.cli_runs import (
    digest_of,
    experiment,
    train_many,
    write_config,
)

pytestmark = pytest.mark.slow

RANKS = 3


def test_a_model_is_the_same_on_all_ranks(toy, tmp_path):
    def masked(**options):
        model = {"name": "odd_models:masked", **options}
        return experiment(toy["features"], model=model)

    wanted = {
        "numpy": masked(draw="numpy"),
        "random": masked(draw="random", keep="number"),
        "system": masked(draw="system"),
        "unseeded": masked(draw="unseeded", keep="frozen"),
        "attribute": masked(draw="system", keep="number"),
    }
    done = train_many(
        RANKS,
        {
            name: [
                "train",
                write_config(tmp_path / f"{name}.yaml", config),
                "--run-dir",
                tmp_path / name,
            ]
            for name, config in wanted.items()
        },
        tmp_path / "job",
    )
    for name in ("numpy", "random"):
        assert done[name].codes == [0] * RANKS, done[name]
        alone = tmp_path / f"{name}-alone"
        config = validate(wanted[name], "test")
        train(Serial(), config, directory=alone, progress="none")
        assert digest_of(tmp_path / name) == digest_of(alone)
    for name, what in (
        ("system", "buffer 'mask' is float32 (4,) sha256 "),
        ("unseeded", "parameter 'mask' is float32 (4,) sha256 "),
        ("attribute", "attribute 'mask' is "),
    ):
        assert done[name].codes == [2] * RANKS, done[name]
        printed = done[name].stderr[0]
        assert f"the model is not the same on all ranks: {what}" in printed
        assert " on rank 0 and " in printed
        assert " on rank 1, another on rank 2; its factory must" in printed
        assert printed.count("\n") == 1
        assert not (tmp_path / name).exists()
