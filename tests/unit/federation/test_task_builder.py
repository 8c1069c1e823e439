"""A user's task is tried before training, and named where it fails."""

import pytest

from fedapm_mpi.comm import Serial
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.plugins import errors as plugin_errors
from fedapm_mpi.training.runner import dry_run
from tests.support.user_task import TOP2, config, written


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugin_errors, "LOADED", [])


@pytest.mark.parametrize(
    ("old", "new", "told"),
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
def test_a_faulty_task_is_named_before_training(toy, old, new, told):
    assert old in TOP2
    name = written(TOP2.replace(old, new)) + ":Top2"
    with pytest.raises(FedAPMError, match=rf"task '{name}'.*{told}") as caught:
        dry_run(Serial(), config(toy, name))
    assert isinstance(caught.value, ConfigError)
