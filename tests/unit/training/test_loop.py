"""The round loop, a step at a time and as a whole."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import EXIT_RESUMABLE, TrainingError
from fedapm_mpi.storage.checkpoint_folder import present
from fedapm_mpi.tracking.base import MetricsLogger
from fedapm_mpi.tracking.run_directory import RunDirectory
from fedapm_mpi.training import loop
from fedapm_mpi.training.context import TrainingContext, open_context
from fedapm_mpi.training.preemption import PreemptionGuard
from fedapm_mpi.training.server import restore_server
from fedapm_mpi.utils.timers import PhaseTimer
from tests.support.processes.cli_runs import experiment


class Kept(MetricsLogger):
    """Keep all records."""

    def __init__(self):
        self.records = {}

    def log(self, record, step):
        self.records[step] = dict(record)


def opened(data, **changes) -> TrainingContext:
    return open_context(validate(experiment(data, **changes), "test"), Serial())


def trained(context: TrainingContext, folder: Path, stop=None):
    kept = Kept()
    result = loop.train(
        context,
        RunDirectory(folder),
        identity={},
        logger=kept,
        stop=stop or PreemptionGuard(),
    )
    return result, kept.records


def test_a_record_has_the_parts_of_all_steps(toy, tmp_path):
    result, records = trained(opened(toy["features"]), tmp_path)
    assert (result.exit_code, result.round_index) == (0, 3)
    assert list(records) == [0, 1, 2, 3]
    assert {"primal_residual", "seconds", "wall_seconds", "loss"} <= set(records[0])
    assert records[0]["wall_seconds"] is None
    assert "participants" not in records[0]
    for t in (1, 2, 3):
        record = records[t]
        assert record["round"] == t
        assert {"participants", "train_loss", "drift", "bytes"} <= set(record)
        phases = {"broadcast", "consensus", "local", "local_mean", "reduce", "server"}
        assert phases <= set(record["seconds"])
        assert ("loss" in record) == (t in (2, 3))  # every second, and the last


def test_checkpoints_are_those_of_every_second_round_and_the_last(toy, tmp_path):
    trained(opened(toy["features"]), tmp_path)
    names = [path.name for path in present(tmp_path / "checkpoints")]
    assert names == ["round-000002", "round-000003"]


def test_a_run_that_is_asked_to_stop_ends_after_the_round_with_a_checkpoint(
    toy, tmp_path
):
    result, records = trained(
        opened(toy["features"], rounds=9, checkpoint={"every": 100}),
        tmp_path,
        PreemptionGuard(requested=1),
    )
    assert (result.exit_code, result.round_index) == (EXIT_RESUMABLE, 1)
    assert list(records) == [0, 1]
    names = [path.name for path in present(tmp_path / "checkpoints")]
    assert names == ["round-000001"]


def test_the_sum_is_that_of_the_updates_and_statistics_are_in_client_order(toy):
    context = opened(toy["features"])
    server = restore_server(context, None)
    message, timer = torch.zeros(context.payload.down_length), PhaseTimer()
    loop.broadcast_model(context, server, message, timer)
    assert torch.equal(context.payload.shared(message), server.rows[0].float())
    local = loop.train_locally(context, 0, message, timer)
    assert local.clients == local.participants.tolist()
    agreed = loop.agree(context, local, PreemptionGuard(), timer)
    assert not agreed.stopping
    summed = loop.aggregate(context, 0, local, agreed.largest, timer)
    np.testing.assert_allclose(summed.total, np.sum(local.updates, axis=0), atol=1e-12)
    assert np.array_equal(summed.statistics, np.array(local.statistics))


def test_a_failure_of_one_client_is_raised_by_all(toy):
    context = opened(toy["features"], participation="full")
    context.table.checkout(2)["dual"].fill_(float("nan"))
    message = torch.zeros(context.payload.down_length)
    timer = PhaseTimer()
    local = loop.train_locally(context, 0, message, timer)
    with pytest.raises(TrainingError, match="client 2") as caught:
        loop.agree(context, local, PreemptionGuard(), timer)
    assert caught.value.agreed
