"""What clients cost."""

import numpy as np

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.training.context import open_context
from tests.support.processes.cli_runs import experiment


def opened(data, **changes):
    return open_context(validate(experiment(data, **changes), "test"), Serial())


def test_costs_follow_the_work(toy):
    session = opened(
        toy["odd"],
        algorithm={
            "name": "fedavg-ft",
            "lr": 0.1,
            "batch_size": 8,
            "work": {"epochs": 2},
        }
        | {"fine_tune_work": {"epochs": 3}, "lr_fine_tune": 0.1},
        split=None,
    )
    counts = session.federation.manifest.counts
    assert (session.federation.training_costs == 2 * counts["train"]).all()
    expected = counts["test"] + 3 * 3 * counts["train"]
    assert np.array_equal(session.federation.evaluation_costs, expected)
