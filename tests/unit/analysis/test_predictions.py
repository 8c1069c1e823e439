"""What a client's model predicts is what its evaluation had."""

import csv

import numpy as np
import pytest

from fedapm_mpi.analysis.predictions import predict, sample_arrays
from fedapm_mpi.analysis.run import read_config
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.training.runner import train
from tests.support.processes.cli_runs import experiment

TASKS = {
    "classification": "features",
    "ordinal": "features",
    "regression": "numbers",
    "multilabel": "tags",
}


@pytest.fixture(scope="module")
def runs(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for task, data in TASKS.items():
        values = experiment(toy[data], task=task, rounds=2, evaluation={"every": 2})
        config = validate(values, "t")
        train(Serial(), config, directory=folder / task, progress="none")
    return folder


def of_client(run, client):
    with (run / "clients.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if row["client"] == str(client)][-1]


def stored(run, client, part="test"):
    data = read_manifest(read_config(run).data)
    reader = ShardReader(data)
    own = reader.read(client, part)
    reader.close()
    return data, own


def test_classes_are_those_that_the_evaluation_counted(runs):
    run = runs / "classification"
    found = predict(run, 3, "test")
    manifest, own = stored(run, 3)
    assert found.names == manifest.classes
    right = [
        manifest.classes[k] == name
        for k, name in zip(own.labels, found.classes, strict=True)
    ]
    assert np.mean(right) == pytest.approx(float(of_client(run, 3)["accuracy"]))
    assert found.values.sum(axis=1) == pytest.approx(1)


def test_errors_of_numbers_are_those_of_the_evaluation(runs):
    run = runs / "regression"
    found = predict(run, "client 5", "test")
    manifest, own = stored(run, 5)
    assert (found.names, found.classes) == (manifest.target.names, ())
    error = np.abs(found.values - own.target).mean()
    assert error == pytest.approx(float(of_client(run, 5)["mae"]), rel=1e-5)


def test_ranks_and_labels_have_names(runs):
    ranks = predict(runs / "ordinal", 0, "test")
    assert ranks.names == ("above left", "above right")
    assert set(ranks.classes) <= {"left", "right", "up"}
    labels = predict(runs / "multilabel", 0, "test")
    assert labels.names == ("target 0", "target 1", "target 2")


@pytest.mark.parametrize("task", TASKS)
def test_given_samples_have_the_same_bits(runs, task):
    manifest, own = stored(runs / task, 2)
    given = sample_arrays(manifest, own.inputs, own.lengths)
    ours = predict(runs / task, 2, given)
    assert np.array_equal(ours.values, predict(runs / task, 2, "test").values)


def test_inputs_that_do_not_fit(runs):
    manifest, own = stored(runs / "regression", 2)
    with pytest.raises(DataError, match="input 'x' is missing; the data set"):
        sample_arrays(manifest, {}, {})
    narrow = {"x": own.inputs["x"][:, :3]}
    with pytest.raises(DataError, match=r"'x' is float32 \(\d+, 3\); the data"):
        sample_arrays(manifest, narrow, {})


def test_what_cannot_be_predicted(runs, toy, tmp_path):
    with pytest.raises(DataError, match="no part 'val'"):
        predict(runs / "regression", 2, "val")
    with pytest.raises(DataError, match="has no client called 'unknown'"):
        predict(runs / "regression", "unknown", "test")
    model = {"name": "unet", "width": 4, "depth": 1}
    values = experiment(toy["masks"], task="segmentation", model=model, rounds=1)
    train(Serial(), validate(values, "t"), directory=tmp_path / "r", progress="none")
    with pytest.raises(ConfigError, match="a class for each position of a sample"):
        predict(tmp_path / "r", 0, "test")
