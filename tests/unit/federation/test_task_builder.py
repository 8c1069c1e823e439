"""A user's task is tried before training, and its errors in training name it."""

from pathlib import Path

import pytest
import torch

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.federation.task_builder import (
    build_task,
    made_up_targets,
    targets_of,
)
from fedapm_mpi.plugins import errors
from fedapm_mpi.plugins.errors import PluginError
from fedapm_mpi.tasks.classification import Classification
from fedapm_mpi.training.runner import dry_run, train
from tests.support.processes.cli_runs import experiment
from tests.support.tasks import TOP2


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(errors, "LOADED", [])


def written(text):
    Path("my_task.py").write_text(text)
    return "./my_task.py:Top2"


def config(toy, name):
    return validate(experiment(toy["features"], task={"name": name}), "test")


def test_the_built_in_task_needs_no_trial(toy):
    manifest = read_manifest(toy["features"])
    assert build_task({"name": "classification"}, manifest) == Classification()


def test_a_task_gets_the_scale_of_the_targets(toy):
    manifest = read_manifest(toy["numbers"])
    task = build_task({"name": "regression"}, manifest)
    assert (task.centre, task.scale) == (manifest.target.mean, manifest.target.std)
    assert targets_of(manifest).size == 2


@pytest.mark.parametrize(
    ("task", "data", "message"),
    [
        ("classification", "numbers", "needs one class .* has real .*regression, or"),
        ("regression", "tags", "needs real targets, .*binary.* as multilabel, or"),
        ("multilabel", "features", "binary.*one class.* classification, ordinal, or"),
    ],
)
def test_a_task_needs_targets_of_its_kind(toy, task, data, message):
    with pytest.raises(ConfigError, match=message):
        build_task({"name": task}, read_manifest(toy[data]))


MEAN_OF_WEIGHED = """
from fedapm_mpi.tasks.multilabel import Multilabel

class Squared(Multilabel):
    def loss(self, outputs, targets, reduction="mean"):
        return super().loss(outputs, targets, reduction) ** 2

class Whole(Multilabel):
    takes_incomplete = False
"""


def test_weights_and_targets_that_samples_lack_need_a_task_that_takes_them(toy):
    Path("own_task.py").write_text(MEAN_OF_WEIGHED)
    manifest = read_manifest(toy["partial"])
    assert build_task({"name": "multilabel"}, manifest).incomplete
    with pytest.raises(ConfigError, match="have weights, but the loss of a batch is"):
        build_task({"name": "./own_task.py:Squared"}, manifest)
    with pytest.raises(ConfigError, match="needs all targets of a sample, but"):
        build_task({"name": "./own_task.py:Whole"}, manifest)


@pytest.mark.parametrize("data", ["features", "numbers", "tags"])
def test_made_up_targets_are_of_the_kind_of_the_data(toy, data):
    described = targets_of(read_manifest(toy[data]))
    found = made_up_targets(described, 5, torch.Generator().manual_seed(1))
    assert len(found) == 5
    if described.kind == "class":
        assert found.dtype == torch.int64
        assert 0 <= found.min() <= found.max() < described.size
    else:
        assert found.shape == (5, described.size)
        assert described.kind == "real" or set(found.flatten().tolist()) <= {0, 1}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("return multi", "raise ValueError('no') or multi", "ValueError: no.*line 23"),
        ("return {", "return {'top3': 1, ", r"gave \['miss', 'top2', 'top3'\]"),
        (
            "return outputs\n",
            "return outputs.sum()\n",
            r"must return a Tensor \(2, 3\)",
        ),
        ("reduction=reduction", "reduction='none'", "return a Tensor without axes"),
        ("class Top2(Task)", "class Top2", "must be a subclass of"),
        ('{"top2": True, "miss": False}', "{}", "has no metric"),
        ("    bounds", "    headline = 'top1'\n    bounds", "'top1'.*not all among"),
        ("    bounds", "    target_kind = 'real'\n    bounds", "needs real targets"),
    ],
)
def test_a_faulty_task_is_named_before_training(toy, old, new, message):
    assert old in TOP2
    name = written(TOP2.replace(old, new))
    with pytest.raises(FedAPMError, match=rf"task '{name}'.*{message}") as caught:
        dry_run(Serial(), config(toy, name))
    assert isinstance(caught.value, ConfigError)


def failing(toy, tmp_path, old, new):
    """Train with a task that fails on more samples than the two of the trial."""
    assert old in TOP2
    wanted = config(toy, written(TOP2.replace(old, new)))
    with pytest.raises(FedAPMError) as caught:
        train(Serial(), wanted, directory=tmp_path / "run", progress="none")
    return caught.value


def test_an_error_in_evaluation_names_the_task(toy, tmp_path):
    fault = "1 / (len(targets) < 3); best = "
    error = failing(toy, tmp_path, "best = ", fault)
    assert isinstance(error, PluginError)
    message = "task './my_task.py:Top2' failed: ZeroDivisionError: division by zero"
    assert str(error).startswith(message)


def test_a_metric_that_is_no_number_is_named(toy, tmp_path):
    fault = '"miss": "x" if len(targets) > 2 else 0'
    error = failing(toy, tmp_path, '"miss": 1 - hits', fault)
    assert "Top2.metrics gave a value that is no number" in str(error)
