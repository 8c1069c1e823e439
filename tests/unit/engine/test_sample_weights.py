"""Weights of samples: in losses, gradients and their moments, alone and in stacks."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.fisher import gradient_moments
from fedapm_mpi.engine.inference import evaluate, mean_loss
from fedapm_mpi.engine.local_objective import LocalObjective
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.engine.stacked_model import Pool, StackedModel
from fedapm_mpi.optim.local import LocalBudget

N, FEATURES, CLASSES = 12, 4, 3
TIMES = torch.tensor([1, 3, 2, 1, 1, 4, 2, 1, 1, 1, 2, 5])


def drawn(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, FEATURES, generator=generator, dtype=torch.float64)
    y = torch.randint(CLASSES, (N,), generator=generator)
    return x, y


def model():
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Linear(FEATURES, 5), nn.Tanh(), nn.Linear(5, CLASSES)
    ).double()
    return PartitionedModel(module, {"2.weight", "2.bias"})


def weighted(seed=0):
    """Return samples with whole weights, relative to their mean."""
    x, y = drawn(seed)
    return Samples((x,), {}, y, weights=TIMES / TIMES.double().mean())


def repeated(seed=0):
    """Return each sample as often as it weighs."""
    x, y = (one.repeat_interleave(TIMES, dim=0) for one in drawn(seed))
    return Samples((x,), {}, y)


def objective(samples):
    return LocalObjective(model(), samples, seed=0, round_index=0, client=0)


def gradient(samples):
    goal = objective(samples)
    (batch,) = goal.batches("joint", LocalBudget(epochs=1), 0)
    return goal.gradient("both", batch).clone(), goal.loss_sum / len(batch)


def test_a_weight_counts_as_so_many_samples():
    ours, other = gradient(weighted()), gradient(repeated())
    assert_close(ours[0], other[0], rtol=1e-12, atol=1e-14)
    assert ours[1] == pytest.approx(other[1], rel=1e-12)
    whole = objective(weighted()).full_gradient("both").clone()
    assert_close(whole, other[0], rtol=1e-12, atol=1e-14)


def test_losses_of_an_evaluation_are_weighted_and_metrics_are_not():
    held = model()
    assert mean_loss(held, weighted()) == pytest.approx(mean_loss(held, repeated()))
    x, y = drawn()
    ours, _ = evaluate(held, weighted(), CLASSES)
    plain, _ = evaluate(held, Samples((x,), {}, y), CLASSES)
    assert ours.loss == pytest.approx(mean_loss(held, repeated()))
    assert (ours.samples, ours.metrics) == (N, plain.metrics)


@pytest.mark.parametrize("vectorized", [True, False])
def test_moments_are_of_weighted_losses(vectorized):
    found = gradient_moments(model(), weighted(), "both", vectorized=vectorized)
    samples = weighted()
    each = []
    for k in range(N):
        one = samples.rows(torch.tensor([k]))
        goal = objective(one)
        (batch,) = goal.batches("joint", LocalBudget(epochs=1), 0)
        each.append(goal.gradient("both", batch).clone())
    rows = torch.stack(each)
    assert_close(found.mean, rows.mean(0), rtol=1e-9, atol=1e-13)
    assert_close(found.mean_square, rows.square().mean(0), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("limit", [0, 2**20])
def test_a_stack_weighs_as_a_client_alone_does(monkeypatch, limit):
    monkeypatch.setattr("fedapm_mpi.engine.stacked_model.POOL_BYTES", limit)
    held = model()
    stack = StackedModel(held, 3)
    own = {0: weighted(1), 2: weighted(2)}
    batches = {0: torch.tensor([3, 1, 7, 5]), 2: torch.tensor([11, 0])}
    losses = stack.gradients("both", Pool(own), batches, 4)
    for lane, samples in own.items():
        goal = LocalObjective(held, samples, seed=0, round_index=0, client=0)
        list(goal.batches("joint", LocalBudget(epochs=1), 0))
        alone = goal.gradient("both", batches[lane])
        both = (stack.shared_gradient[lane], stack.personal_gradient[lane])
        assert_close(torch.cat(both), alone, rtol=1e-10, atol=1e-13)
        assert losses[lane] != 0


def test_weights_go_where_samples_go():
    samples = weighted()
    some = samples.rows(torch.tensor([5, 0]))
    assert_close(some.weights, samples.weights[[5, 0]])
    assert torch.equal(Samples.of_tensors(some.tensors()).weights, some.weights)
    assert [len(one.weights) for one in samples.chunks(5)] == [5, 5, 2]
    assert Samples.of_tensors(repeated().tensors()).weights is None
    assert np.isclose(float(samples.weights.mean()), 1)
