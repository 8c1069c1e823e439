"""Which clients are trained in stacks."""

import numpy as np
import pytest

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.federation.task_builder import loss_fault
from fedapm_mpi.optim.batching import Batching
from fedapm_mpi.tasks import Targets, Task
from fedapm_mpi.tasks.classification import Classification
from fedapm_mpi.training import stack_rules
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.runner import train_run
from fedapm_mpi.training.stack_rules import build_stacks, largest_batch, stack_size
from tests.support.experiments import JOINT
from tests.support.processes.cli_runs import experiment


def run(folder, data, **changes):
    """Train in this process; return the run."""
    values = experiment(data, algorithm=JOINT, **changes)
    return train_run(Serial(), validate(values, "t"), directory=folder, progress="none")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": {"name": "user_parts:batch_norm"}, "split": {"personal": ["3.*"]}},
         "it has buffers"),
        ({"model": {"name": "user_parts:dropping"}, "split": {"personal": ["0.*"]}},
         "1 draws random numbers"),
        ({"threads": 2}, "they need threads: 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_stacked_is_said_and_trained_as_ever(
    toy, tmp_path, changes, reason, caplog
):
    alone = run(tmp_path / "alone", toy["features"], **changes)
    assert "one by one" not in caplog.text
    ours = run(tmp_path / "ours", toy["features"], stacked=4, **changes)
    (note,) = [line for line in caplog.messages if "one by one" in line]
    assert note.startswith("clients are trained one by one, not in stacks of 4: ")
    assert reason in note
    assert ours.digest == alone.digest


@pytest.mark.parametrize("key", ["device", "precision", "kernels"])
def test_what_stacks_need(toy, key):
    values = {"device": "cuda", "precision": "bf16", "kernels": "portable"}
    config = validate(experiment(toy["features"], **{key: values[key]}), "t")
    assert stack_rules._config_reason(config).startswith(f"they need {key}: ")


def test_auto_leaves_large_models_alone(toy, monkeypatch):
    config = validate(experiment(toy["features"], stacked="auto"), "t")
    monkeypatch.setattr(stack_rules, "LONGEST", 10)
    context = open_context(config, Serial())
    (note,) = [line for line in context.warnings if "one by one" in line]
    assert note.endswith("the model has more than 10 parameters")


def test_auto_stacks_dense_layers_alone(toy, tmp_path, caplog):
    run(tmp_path / "dense", toy["features"], stacked="auto")
    assert "one by one" not in caplog.text
    values = {"model": {"name": "user_parts:towers", "sides": {"a": 2}}}
    run(tmp_path / "other", toy["features"], stacked="auto", **values)
    assert "other layers than dense ones" in caplog.text


def test_the_widest_batch_of_any_client():
    samples = np.array([0, 3, 8, 9, 20])
    assert largest_batch(Batching("keep"), samples, 8) == 8
    assert largest_batch(Batching("merge"), samples, 8) == 12  # 20 is 8 and 12
    assert largest_batch(Batching("keep"), samples, 0) == 20
    assert largest_batch(Batching("keep"), samples[:2], 8) == 3
    assert largest_batch(Batching("keep"), samples[:1], 8) == 1


def test_stacks_of_equal_sizes(toy):
    config = validate(experiment(toy["features"], stacked="auto"), "t")
    sizes = [stack_size(config, count) for count in (1, 2, 8, 32, 33, 65, 1000)]
    assert sizes == [2, 2, 8, 32, 17, 22, 32]
    config = validate(experiment(toy["features"], stacked=7), "t")
    assert stack_size(config, 100) == 7


class Elsewhere(Serial):
    """Ranks of which another cannot."""

    def allreduce_max(self, values):
        return [True for _ in values]


def test_where_one_rank_cannot_none_does(toy):
    config = validate(experiment(toy["features"], stacked=4), "t")
    context = open_context(config, Serial())
    assert not [line for line in context.warnings if "one by one" in line]
    stacks, notes = build_stacks(
        Elsewhere(), config, context.algorithm, context.federation
    )
    (note,) = notes
    assert note.endswith("it cannot on another rank")
    everyone = np.zeros(8, np.int64)
    found = list(stacks.divide(range(8), everyone, 8))
    assert found == [([k], None) for k in range(8)]


def test_what_torch_cannot_batch_is_said(toy, monkeypatch):
    def refuse(*args):
        raise RuntimeError("no batching rule\nand much more")

    monkeypatch.setattr(stack_rules, "place_matters", refuse)
    context = open_context(
        validate(experiment(toy["features"], stacked=4), "t"), Serial()
    )
    (note,) = [line for line in context.warnings if "one by one" in line]
    assert note.endswith("the model cannot be stacked: no batching rule")


class Balanced(Classification):
    """A loss that weighs a batch by the classes that are in it."""

    def loss(self, outputs, targets, reduction="mean"):
        return super().loss(outputs, targets, reduction) / len(targets.unique())

    sample_losses = Task.sample_losses


class Approximate(Classification):
    """Losses of samples in another shape than theirs."""

    def sample_losses(self, outputs, targets):
        return super().sample_losses(outputs, targets)[:, None]


class Own(Classification):
    """A loss of one's own that is a mean over samples."""

    def loss(self, outputs, targets, reduction="mean"):
        return 2 * super().loss(outputs, targets, reduction)

    sample_losses = Task.sample_losses


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Classification, ""),
        (Own, ""),
        (Balanced, "cannot be taken by sample: "),  # torch cannot batch `unique`
        (Approximate, "is not the mean of the losses of its samples"),
    ],
)
def test_a_loss_is_the_mean_of_its_samples(kind, reason):
    found = loss_fault(kind(), Targets("class", ("a", "b", "c")))
    assert (reason in found) if reason else not found
