"""Multilabel classification against torch and scikit-learn."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn import metrics as reference

from fedapm_mpi.errors import ConfigError, TrainingError
from fedapm_mpi.tasks import Targets
from fedapm_mpi.tasks.base import with_metrics
from fedapm_mpi.tasks.multilabel import Multilabel, multilabel_metrics

THREE = Targets("binary", ("cat", "dog", "owl"), mean=(0.5, 0.25, 0.1), std=(0.5,) * 3)


def drawn(n=60, seed=0, shares=(0.5, 0.25, 0.1)):
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, len(shares))) < shares).astype(float)
    return rng.normal(size=labels.shape) + labels, labels


@pytest.mark.parametrize("balanced", [False, True])
def test_loss_is_the_binary_cross_entropy(balanced):
    scores, labels = drawn()
    task = Multilabel(balanced=balanced).for_targets(THREE)
    p = 1 / (1 + np.exp(-scores))
    weight = np.array([1.0, 3.0, 9.0]) if balanced else np.ones(3)
    each = -(weight * labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean(axis=1)
    o, y = torch.from_numpy(scores), torch.from_numpy(labels)
    assert_allclose(task.sample_losses(o, y), each, rtol=1e-10)
    assert_allclose(task.loss(o, y), each.mean(), rtol=1e-10)
    assert_allclose(task.loss(o, y, "sum"), each.sum(), rtol=1e-10)
    assert_allclose(task.predict(o), p, rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_metrics_agree_with_scikit_learn(seed):
    scores, labels = drawn(seed=seed)
    p = 1 / (1 + np.exp(-scores))
    found = Multilabel().metrics(p, labels)
    predicted = p >= 0.5
    wanted = {
        "f1": reference.f1_score(labels, predicted, average="micro"),
        "accuracy": 1 - reference.hamming_loss(labels, predicted),
        "exact_match": reference.accuracy_score(labels, predicted),
        "auroc": reference.roc_auc_score(labels, p, average="macro"),
    }
    assert list(found) == list(Multilabel.higher_is_better)
    for name, value in wanted.items():
        assert_allclose(found[name], value, rtol=1e-9)


def test_labels_that_all_or_none_have_count_in_no_area():
    scores, labels = drawn()
    labels[:, 1], labels[:, 2] = 0, 1
    found = multilabel_metrics(scores, labels)
    assert_allclose(found["auroc"], reference.roc_auc_score(labels[:, 0], scores[:, 0]))
    one = multilabel_metrics(scores[:1], labels[:1])
    assert np.isnan(one["auroc"])
    nothing = multilabel_metrics(np.zeros((2, 3)), np.zeros((2, 3)))
    assert (nothing["f1"], nothing["exact_match"]) == (0, 1)


def test_a_label_of_no_sample_has_no_balanced_weight():
    rare = Targets("binary", ("a", "b"), mean=(0.5, 0.0), std=(0.5, 0.0))
    assert Multilabel().for_targets(rare) == Multilabel()
    with pytest.raises(ConfigError, match="no training sample has the label 'b'"):
        Multilabel(balanced=True).for_targets(rare)


def test_what_is_not_finite_ends_the_run():
    with pytest.raises(TrainingError, match="not finite"):
        Multilabel().metrics(np.array([[np.nan]]), np.array([[1.0]]))


def test_unknown_labels_count_nowhere():
    rng = np.random.default_rng(2)
    scores, labels = rng.normal(size=(40, 3)), rng.integers(0, 2, (40, 3)).astype(float)
    unknown = rng.random((40, 3)) < 0.4
    unknown[np.arange(40), rng.integers(3, size=40)] = False
    given = np.where(unknown, np.nan, labels)
    three = Targets("binary", ("a", "b", "c"), (), (0.5,) * 3, (0.5,) * 3, (), True)
    task = Multilabel().for_targets(three)
    each = np.logaddexp(0, np.where(labels > 0, -scores, scores))
    wanted = np.nanmean(np.where(unknown, np.nan, each), axis=1)
    tensors = torch.from_numpy(scores).requires_grad_(), torch.from_numpy(given)
    assert_allclose(task.sample_losses(*tensors).detach(), wanted, rtol=1e-12)
    task.loss(*tensors).backward()
    assert (tensors[0].grad.numpy()[unknown] == 0).all()
    found = task.metrics(task.predict(torch.from_numpy(scores)).numpy(), given)
    predicted, known = scores >= 0, ~unknown
    assert found["f1"] == reference.f1_score(labels[known], predicted[known])
    assert found["accuracy"] == reference.accuracy_score(
        labels[known], predicted[known]
    )
    areas = [
        reference.roc_auc_score(labels[known[:, k], k], scores[known[:, k], k])
        for k in range(3)
    ]
    assert_allclose(found["auroc"], np.mean(areas), rtol=1e-12)
    right = ((predicted == labels) | unknown).all(axis=1)
    assert found["exact_match"] == right.mean()
    with pytest.raises(ConfigError, match="lack some targets, and metrics of libr"):
        with_metrics(task, three, [object()])
