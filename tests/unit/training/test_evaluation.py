"""Who is evaluated, and that it changes nothing of the training."""

import csv

import numpy as np
import pytest

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
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
    last = session.federation.participants(session.config.rounds - 1).tolist()
    assert 0 < len(last) < 7
    assert found == {i: rows[i] for i in last}
    accuracy = np.mean([float(rows[i]["accuracy"]) for i in last])
    assert records[-1]["accuracy"] == pytest.approx(accuracy, rel=1e-6)
    tested = [int(rows[i]["test_samples"]) for i in last]
    pooled = np.average([float(rows[i]["accuracy"]) for i in last], weights=tested)
    assert records[-1]["pooled"]["accuracy"] == pytest.approx(pooled, rel=1e-6)
    assert len(rows) == 8
    # Before training no client has taken part.
    assert "accuracy" not in records[0]
    assert "accuracy" in everybody[0]
    assert all("accuracy" in record for record in records[1:])


def test_a_round_without_participants_evaluates_no_client(toy, tmp_path):
    hardly_any = {"name": "probability", "probability": 1e-12}
    values = experiment(
        toy["features"],
        evaluation={"every": 1, "clients": "participants"},
        participation=hardly_any,
    )
    directory = tmp_path / "run"
    config = validate(values, "test")
    assert train(Serial(), config, directory=directory, progress="none") == 0
    assert not any("accuracy" in record for record in rounds_of(directory))
    assert not (directory / "clients.csv").exists()
