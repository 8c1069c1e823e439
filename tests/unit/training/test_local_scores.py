"""Scores of a round of local training, against a loop over the clients."""

import numpy as np
import pytest
import torch

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import TrainingError
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.local_scores import measure_scores
from fedapm_mpi.training.preemption import PreemptionGuard
from fedapm_mpi.training.split_rules import RULES
from tests.support.processes.cli_runs import experiment

NAMES = ["body.0.weight", "body.0.bias", "head.weight", "head.bias"]


def opened(data, **changes):
    values = {"split": {"shared": []}, "rounds": 1, "participation": "full"}
    values = experiment(data, **(values | changes))
    return open_context(validate(values, "test"), Serial())


class Recorder:
    """Scores nothing, and keeps what it is given."""

    needs_gradient = True

    def __init__(self, score=1.0):
        self.seen, self.value = [], score

    def scored(self, names):
        return list(names)

    def score(self, client):
        self.seen.append(client)
        return dict.fromkeys(client.sizes, self.value)


def test_each_client_is_scored_before_and_after_its_own_round(toy):
    context = opened(toy["odd"])
    recorder = Recorder()
    found = measure_scores(context, recorder, PreemptionGuard())
    assert found == dict.fromkeys(NAMES, 1.0)
    counts = context.federation.manifest.counts["train"]
    assert len(recorder.seen) == int((counts > 0).sum()) < len(counts)
    (group,) = context.groups.members
    for client in recorder.seen:
        assert list(client.sizes) == NAMES
        assert torch.equal(client.start, group.initial["personal"])
        assert not torch.equal(client.end, client.start)
        assert len(client.gradient) == len(client.end)


def test_gradients_are_those_of_the_mean_loss(toy):
    context = opened(toy["features"], dtype="float64")
    recorder = Recorder()
    measure_scores(context, recorder, PreemptionGuard())
    (group,) = context.groups.members
    for client, seen in enumerate(recorder.seen):
        samples = context.samples(client, "train")
        group.model.personal.copy_(seen.end)
        group.model.gradient.zero_()
        scores = group.model.module(*samples.inputs)
        torch.nn.functional.cross_entropy(scores, samples.targets).backward()
        assert torch.allclose(group.model.gradient, seen.gradient, atol=1e-12)


@pytest.mark.parametrize("name", list(RULES))
def test_scores_are_means_over_clients(toy, name):
    rule = RULES[name]
    found = measure_scores(opened(toy["features"]), rule, PreemptionGuard())
    recorder = Recorder()
    context = opened(toy["features"])
    measure_scores(context, recorder, PreemptionGuard())
    rows = [rule.score(client) for client in recorder.seen]
    assert found == pytest.approx(
        {key: np.mean([row[key] for row in rows]) for key in rows[0]}, rel=1e-12
    )


def test_it_stops_when_asked(toy):
    stop = PreemptionGuard()
    stop.deadline = 0.0
    assert measure_scores(opened(toy["features"]), Recorder(), stop) is None


def test_scores_that_are_not_finite_are_refused(toy):
    with pytest.raises(TrainingError, match="not finite"):
        measure_scores(
            opened(toy["features"]), Recorder(float("nan")), PreemptionGuard()
        )
