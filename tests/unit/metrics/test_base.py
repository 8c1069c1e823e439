"""Metrics that are added to a task: their names, directions and bounds."""

import numpy as np
import pytest

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.metrics import Metric
from fedapm_mpi.tasks import Targets
from fedapm_mpi.tasks.base import with_metrics
from fedapm_mpi.tasks.classification import Classification
from fedapm_mpi.tasks.segmentation import Segmentation

THREE = Targets("class", ("a", "b", "c"), (1, 1, 1))


class Share(Metric):
    """The share of samples with a probability above a level."""

    label = "sure"
    higher_is_better = False
    bounds = (0.0, 1.0)

    def compute(self, predictions, targets):
        return float((predictions.max(axis=1) > 0.5).mean())


class Seen(Share):
    def for_targets(self, kind, size):
        self.seen = kind, size
        return self


def test_a_task_states_added_metrics_after_its_own():
    own = Classification()
    assert with_metrics(own, THREE, ()) is own
    task = with_metrics(own, THREE, [Share()])
    known, before = task.metric_set(), own.metric_set()
    assert known.names == (*before.names, "sure")
    assert known.displayed == (*before.displayed, "sure")
    assert known.partial == (*before.partial, "sure")
    assert known.bounds == {**before.bounds, "sure": (0.0, 1.0)}
    assert known.higher_is_better["sure"] is False
    assert known.headline == before.headline
    assert own.metric_set() == before, "the task itself has no more"


def test_a_metric_is_made_for_the_targets():
    metric = Seen()
    task = with_metrics(Classification(), THREE, [metric])
    assert metric.seen == ("class", 3)
    predictions = np.array([[0.6, 0.4, 0.0], [0.4, 0.3, 0.3]])
    pair = task.metric_pair(predictions, np.array([0, 1]))
    assert task.added[0].compute(*pair) == 0.5


def test_names_are_distinct_and_dense_targets_take_none():
    with pytest.raises(ConfigError, match="'sure' is there already"):
        with_metrics(Classification(), THREE, [Share(), Share()])
    masks = Targets("dense", ("a", "b"), mean=(0.5, 0.5), shape=(4,))
    with pytest.raises(ConfigError, match="sums of a sample's positions"):
        with_metrics(Segmentation().for_targets(masks), masks, [Share()])
