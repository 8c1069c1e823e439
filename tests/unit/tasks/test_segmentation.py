"""Segmentation against torch and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn import metrics as reference
from torch.nn.functional import cross_entropy

from fedapm_mpi.errors import ConfigError, TrainingError
from fedapm_mpi.tasks import Targets
from fedapm_mpi.tasks.segmentation import Segmentation

SHARES = (0.5, 0.3, 0.2)
THREE = Targets("dense", ("sky", "tree", "road"), mean=SHARES, shape=(6, 5))


def drawn(n=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(n, 3, 6, 5, generator=generator).double()
    return outputs, torch.randint(-1, 3, (n, 6, 5), generator=generator)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_agree_with_scikit_learn(seed):
    outputs, targets = drawn(seed=seed)
    task = Segmentation().for_targets(THREE)
    rows = task.metric_inputs(outputs, targets)
    assert rows.shape == (4, task.metric_input_size(3))
    found = task.metrics(rows.numpy(), np.empty((4, 0)))
    there = (targets >= 0).flatten()
    true = targets.flatten()[there].numpy()
    predicted = task.predict(outputs).flatten()[there].numpy()
    wanted = {
        "iou": reference.jaccard_score(true, predicted, average="macro"),
        "dice": reference.f1_score(true, predicted, average="macro"),
        "accuracy": reference.accuracy_score(true, predicted),
    }
    assert list(found) == list(Segmentation.higher_is_better)
    for name, value in wanted.items():
        assert_allclose(found[name], value, rtol=1e-9)


def test_a_class_that_is_nowhere_does_not_count():
    task = Segmentation().for_targets(THREE)
    targets = torch.zeros(1, 6, 5, dtype=torch.int64)
    targets[0, 0, 0] = -1
    outputs = torch.zeros(1, 3, 6, 5).double()
    outputs[0, 0, 1:], outputs[0, 1, :1] = 1, 1
    found = task.metrics(task.metric_inputs(outputs, targets).numpy(), None)
    assert_allclose(found["iou"], (25 / 29 + 0 / 4) / 2)
    assert_allclose(found["accuracy"], 25 / 29)
    ignored = task.metric_inputs(outputs, torch.full_like(targets, -1)).numpy()
    assert all(map(math.isnan, task.metrics(ignored, None).values()))


@pytest.mark.parametrize("weights", [(1.0, 2.0, 0.0), "balanced"])
def test_weights_of_classes(weights):
    outputs, targets = drawn()
    task = Segmentation(class_weights=weights).for_targets(THREE)
    own = [1 / (3 * share) for share in SHARES] if weights == "balanced" else weights
    losses = cross_entropy(
        outputs,
        targets,
        weight=torch.tensor(own).double(),
        reduction="none",
        ignore_index=-1,
    )
    pixels = (targets >= 0).sum(dim=(1, 2))
    expected = losses.sum(dim=(1, 2)) / pixels
    torch.testing.assert_close(task.sample_losses(outputs, targets), expected)
    assert not task.graph_safe


def test_refuses_what_does_not_fit():
    for weights in ((1.0, 2.0), (0.0,) * 3):
        with pytest.raises(ConfigError, match=r"weights for 3 classes.*not all zero"):
            Segmentation(class_weights=weights).for_targets(THREE)
    rare = Targets("dense", ("a", "b"), mean=(1.0, 0.0), shape=(2,))
    with pytest.raises(ConfigError, match="no training pixel is of class 'b'"):
        Segmentation(class_weights="balanced").for_targets(rare)


def test_scores_that_are_not_finite_are_no_prediction():
    outputs, targets = drawn()
    outputs[1, 0, 2, 2] = math.nan
    task = Segmentation().for_targets(THREE)
    with pytest.raises(TrainingError, match="not finite"):
        task.metrics(task.metric_inputs(outputs, targets).numpy(), None)
