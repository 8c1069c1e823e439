"""Options of the classification loss against torch and the papers' formulas."""

import pytest
import torch
from torch import tensor
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.tasks import Targets
from fedapm_mpi.tasks.classification import Classification

CLASSES = Targets("class", ("a", "b", "c"), counts=(6, 3, 1))


def drawn(n=50):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return scores, torch.randint(3, (n,), generator=generator)


def each(options, scores, labels):
    task = Classification(**options).for_targets(CLASSES)
    losses = task.sample_losses(scores, labels)
    assert_close(task.loss(scores, labels), losses.mean())
    assert_close(task.loss(scores, labels, "sum"), losses.sum())
    return losses


def test_balanced_weights_are_those_of_scikit_learn():
    scores, labels = drawn()
    weights = tensor([10 / 18, 10 / 9, 10 / 3], dtype=torch.float64)
    plain = cross_entropy(scores, labels, reduction="none")
    found = each({"class_weights": "balanced"}, scores, labels)
    assert_close(found, weights[labels] * plain)
    found = each({"class_weights": (1, 0, 2)}, scores, labels)
    assert_close(found, tensor([1.0, 0, 2])[labels] * plain)


def test_label_smoothing_is_that_of_torch():
    scores, labels = drawn()
    found = each({"label_smoothing": 0.2}, scores, labels)
    target = torch.full((50, 3), 0.2 / 3, dtype=torch.float64)
    target[torch.arange(50), labels] += 0.8
    assert_close(found, -(target * scores.log_softmax(1)).sum(1))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_is_that_of_its_paper(gamma):
    scores, labels = drawn()
    p = scores.softmax(1)[torch.arange(50), labels]
    assert_close(each({"focal": gamma}, scores, labels), -((1 - p) ** gamma) * p.log())
    sure = torch.tensor([[80.0, 0, 0]], requires_grad=True)
    loss = Classification(focal=gamma).loss(sure, tensor([0]))
    loss.backward()
    assert torch.isfinite(sure.grad).all()


def test_without_options_nothing_has_changed():
    scores, labels = drawn()
    task = Classification().for_targets(CLASSES)
    assert task == Classification()
    assert task.graph_safe
    for reduction in ("mean", "sum"):
        assert torch.equal(
            task.loss(scores, labels, reduction),
            cross_entropy(scores, labels, reduction=reduction),
        )


@pytest.mark.parametrize(
    ("weights", "targets", "message"),
    [
        ((1.0, 2.0), CLASSES, "2 weights for 3 classes"),
        ((0, 0, 0), CLASSES, "not all zero"),
        ("balanced", Targets("class", ("a", "b"), (3, 0)), "is of class 'b'"),
    ],
)
def test_weights_must_fit_the_classes(weights, targets, message):
    with pytest.raises(ConfigError, match=message):
        Classification(class_weights=weights).for_targets(targets)


def test_two_answers_to_the_same_question_are_refused():
    with pytest.raises(ValueError, match="leave label_smoothing out"):
        Classification(focal=1, label_smoothing=0.1)
