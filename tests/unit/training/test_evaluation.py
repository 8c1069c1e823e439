"""Who is evaluated, and that it changes nothing of the training."""

import csv

import numpy as np
import pytest
import torch
from torch import nn

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.inference import evaluate
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.runner import train
from tests.support.processes.cli_runs import digest_of, experiment, rounds_of

CHANCE = {"name": "probability", "probability": [0.5] * 7 + [0.0]}


def run(data, directory, clients, **changes):
    values = experiment(
        data,
        evaluation={"every": 1, "clients": clients},
        participation=CHANCE,
        **changes,
    )
    config = validate(values, "test")
    assert train(Serial(), config, directory=directory, progress="none") == 0
    with (directory / "clients.csv").open() as file:
        rows = {int(row["client"]): row for row in csv.DictReader(file)}
    return open_context(config, Serial()), rounds_of(directory), rows


def test_participants_alone(toy, tmp_path):
    _, everybody, rows = run(toy["features"], tmp_path / "all", "all")
    session, records, found = run(toy["features"], tmp_path / "some", "participants")
    assert digest_of(tmp_path / "all") == digest_of(tmp_path / "some")
    last = session.participants(session.config.rounds - 1).tolist()
    assert 0 < len(last) < 7
    assert found == {i: rows[i] for i in last}
    accuracy = np.mean([float(rows[i]["accuracy"]) for i in last])
    assert records[-1]["accuracy"] == pytest.approx(accuracy, rel=1e-6)
    tested = [int(rows[i]["test_samples"]) for i in last]
    pooled = np.average([float(rows[i]["accuracy"]) for i in last], weights=tested)
    assert records[-1]["pooled"]["accuracy"] == pytest.approx(pooled, rel=1e-6)
    assert len(rows) == 8
    # Before training nobody has taken part.
    assert "accuracy" not in records[0]
    assert "accuracy" in everybody[0]
    assert all("accuracy" in record for record in records[1:])


def test_a_round_without_participants_evaluates_nobody(toy, tmp_path):
    nobody = {"name": "probability", "probability": 1e-12}
    values = experiment(
        toy["features"],
        evaluation={"every": 1, "clients": "participants"},
        participation=nobody,
    )
    directory = tmp_path / "run"
    config = validate(values, "test")
    assert train(Serial(), config, directory=directory, progress="none") == 0
    assert not any("accuracy" in record for record in rounds_of(directory))
    assert not (directory / "clients.csv").exists()


@pytest.mark.parametrize(
    ("shape", "pieces"),
    [((3, 32, 32), [85, 85, 30]), ((3, 200, 200), [50] * 4), ((4,), [200])],
)
def test_evaluation_takes_about_a_megabyte_at_a_time(shape, pieces):
    size = int(np.prod(shape))
    module = nn.Sequential(nn.Flatten(), nn.Linear(size, 2))
    seen = []
    module[1].register_forward_hook(lambda layer, x, y: seen.append(len(y)))
    own = Samples((torch.zeros(200, *shape),), {}, torch.arange(200) % 2)
    evaluate(PartitionedModel(module, set()), own, 2)
    assert seen == pieces
