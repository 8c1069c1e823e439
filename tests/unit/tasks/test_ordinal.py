"""Ordinal classification against formulas and scikit-learn."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn import metrics as reference

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.tasks.ordinal import Ordinal, ordinal_metrics


def test_the_loss_is_that_of_the_thresholds():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(30, 3)), rng.integers(4, size=30)
    p = 1 / (1 + np.exp(-scores))
    each = np.zeros(30)
    for k in range(3):
        above = labels > k
        each -= np.log(np.where(above, p[:, k], 1 - p[:, k])) / 3
    o, y = torch.from_numpy(scores), torch.from_numpy(labels)
    task = Ordinal()
    assert_allclose(task.sample_losses(o, y), each, rtol=1e-10)
    assert_allclose(task.loss(o, y), each.mean(), rtol=1e-10)
    assert_allclose(task.loss(o, y, "sum"), each.sum(), rtol=1e-10)


def test_the_class_is_the_number_of_thresholds_below():
    above = np.array([[0.1, 0.2, 0.0], [0.9, 0.8, 0.7], [0.9, 0.6, 0.4]])
    found = Ordinal().metrics(above, np.array([0, 3, 0]))
    assert found["mae"] == pytest.approx(2 / 3)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert Ordinal().output_size(4) == 3
    with pytest.raises(ConfigError, match="needs 2 or more"):
        Ordinal().output_size(1)


@pytest.mark.parametrize("seed", range(4))
def test_metrics_agree_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(5, size=(2, 40))
    found = ordinal_metrics(predicted, labels, 5)
    assert list(found) == list(Ordinal.higher_is_better)
    kappa = reference.cohen_kappa_score(labels, predicted, weights="quadratic")
    assert_allclose(found["kappa"], kappa, rtol=1e-9)
    assert_allclose(found["mae"], reference.mean_absolute_error(labels, predicted))
    assert_allclose(found["accuracy"], reference.accuracy_score(labels, predicted))


def test_kappa_is_undefined_for_one_class():
    ones = np.ones(5, int)
    assert np.isnan(ordinal_metrics(ones, ones, 3)["kappa"])
    assert ordinal_metrics(ones * 2, ones, 3)["kappa"] == 0
