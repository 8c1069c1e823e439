"""A user's task is tried before training, and its errors in training name it."""

from pathlib import Path

import pytest

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.federation.task_builder import build_task
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


def test_the_built_in_task_needs_no_trial():
    assert build_task({"name": "classification"}, 3) == Classification()


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
        ("    bounds", "    target_dtype = 'float32'\n    bounds", "class labels"),
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
