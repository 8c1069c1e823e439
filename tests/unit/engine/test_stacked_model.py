"""Gradients of many clients at once: those of autograd, wherever a client stands."""

import pytest
import torch
from torch import nn

from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine import stacked_model
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.engine.stacked_model import Pool, StackedModel, place_matters
from fedapm_mpi.federation.model_trial import made_up
from fedapm_mpi.models.base import Stage
from fedapm_mpi.tasks import Targets, Task
from fedapm_mpi.tasks.classification import Classification


class Idle(nn.Module):
    """Dense layers, one of which is frozen and one used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.twice = nn.Linear(6, 5), nn.Linear(5, 5)
        self.frozen, self.head = nn.Linear(5, 5, bias=False), nn.Linear(5, 3)
        self.frozen.weight.requires_grad_(False)

    def forward(self, x):
        x = self.twice(torch.tanh(self.twice(torch.tanh(self.first(x)))))
        return self.head(self.frozen(torch.tanh(x)))

    def stages(self):
        parts = [self.first, nn.Tanh(), self.twice, nn.Tanh(), self.twice, nn.Tanh()]
        return [Stage((one,), one) for one in (*parts, self.frozen, self.head)]


class Undeclared(Idle):
    """The same, that does not declare its stages."""

    def forward(self, x):
        return super().forward(x)


def per_client_gradients(model, vectors, work):
    """Return gradients by autograd, one client after another."""
    found = []
    for (shared, personal), one in zip(vectors, work, strict=True):
        model.shared.copy_(shared)
        model.personal.copy_(personal)
        model.set_trainable("both")
        model.gradient.zero_()
        rows = one[0].rows(one[1])
        model.task.loss(model.module(*rows.inputs), rows.targets).backward()
        found.append(model.gradient.clone())
    return found


@pytest.mark.parametrize("make", [Idle, Undeclared])
@pytest.mark.parametrize("block", ["shared", "personal", "both"])
def test_gradients_are_those_of_autograd(make, block):
    torch.manual_seed(3)
    model = PartitionedModel(make().double(), {"head.weight", "twice.bias"})
    assert stacked_model.is_dense(model.module) == (make is Idle)
    stack = StackedModel(model, 4)
    work, vectors = [], []
    for lane, n in enumerate((5, 2, 4)):
        samples = Samples(
            (torch.randn(n + 3, 6).double(),), {}, torch.arange(n + 3) % 3
        )
        work.append((samples, torch.randperm(n + 3)[:n]))
        vectors.append(
            (torch.randn_like(model.shared), torch.randn_like(model.personal))
        )
        stack.shared[lane].copy_(vectors[-1][0])
        stack.personal[lane].copy_(vectors[-1][1])
    before = stack.shared_gradient.clone(), stack.personal_gradient.clone()
    pool = Pool({lane: samples for lane, (samples, _) in enumerate(work)})
    batches = {lane: rows for lane, (_, rows) in enumerate(work)}
    losses = stack.gradients(block, pool, batches, 6)
    cut = len(model.shared)
    expected = per_client_gradients(model, vectors, work)
    for lane, gradient in enumerate(expected):
        rows = work[lane][0].rows(work[lane][1])
        model.shared.copy_(vectors[lane][0])
        model.personal.copy_(vectors[lane][1])
        loss = model.task.loss(model.module(*rows.inputs), rows.targets)
        assert losses[lane] == pytest.approx(loss.item(), rel=1e-12)
        if block != "personal":
            assert torch.allclose(stack.shared_gradient[lane], gradient[:cut])
        if block != "shared":
            assert torch.allclose(stack.personal_gradient[lane], gradient[cut:])
    if block == "shared":
        assert torch.equal(stack.personal_gradient, before[1])
    if block == "personal":
        assert torch.equal(stack.shared_gradient, before[0])


def test_an_unused_parameter_has_no_gradient():
    """Not that of the step before, to which hooks have added."""
    module = Undeclared()
    module.unused = nn.Parameter(torch.ones(4))
    stack = StackedModel(PartitionedModel(module, {"unused"}), 2)
    stack.personal_gradient.fill_(7)
    pool = Pool({0: Samples((torch.randn(3, 6),), {}, torch.arange(3))})
    stack.gradients("both", pool, {0: torch.arange(3)}, 3)
    assert not stack.personal_gradient.any()
    assert stack.shared_gradient[0].any()


def test_the_loss_of_any_task_can_be_taken_by_sample():
    outputs, targets = torch.randn(7, 3).double(), torch.arange(7) % 3
    own = Classification()
    by_sample = own.sample_losses(outputs, targets)
    assert torch.allclose(by_sample, Task.sample_losses(own, outputs, targets))
    assert float(by_sample.mean()) == pytest.approx(float(own.loss(outputs, targets)))


def test_places_that_matter_are_found(monkeypatch):
    model = PartitionedModel(
        nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)), set()
    )
    inputs = [InputSpec("x", (6,), "float32")]
    classes = Targets("class", ("a", "b", "c"))
    samples = made_up(inputs, 16, torch.float32, classes).chunks(8)
    assert place_matters(model, 4, samples) == ""
    forward = StackedModel._run

    def shaken(self, stage, inputs):
        found = forward(self, stage, inputs)
        return found * (1 + 1e-6 * torch.arange(self.size).view(-1, 1, 1))

    monkeypatch.setattr(StackedModel, "_run", shaken)
    assert "place" in place_matters(model, 4, samples)


@pytest.mark.parametrize("limit", [0, stacked_model.POOL_BYTES])
def test_mini_batches_are_read_whole(monkeypatch, limit):
    """From one tensor, or from each client's own."""
    monkeypatch.setattr(stacked_model, "POOL_BYTES", limit)
    samples = {
        lane: Samples((torch.rand(n, 2), torch.rand(n, 3)), {}, torch.arange(n))
        for lane, n in ((0, 4), (2, 6))
    }
    into = [torch.zeros(3, 4, 2), torch.zeros(3, 4, 3), torch.zeros(3, 4).long()]
    rows = {0: torch.tensor([3, 1]), 2: torch.tensor([5, 0, 2, 4])}
    Pool(samples).read(rows, into)
    for lane, index in ((0, [3, 1, 3, 3]), (2, [5, 0, 2, 4])):
        own = samples[lane]
        for x, found in zip((*own.inputs, own.targets), into, strict=True):
            assert torch.equal(found[lane], x[index])


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)), "it has buffers"),
        (nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.1)), "1 draws random numbers"),
        (nn.Sequential(nn.Linear(6, 3), nn.RReLU()), "1 draws random numbers"),
        (nn.GRU(6, 3), " is recurrent"),
        (nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.0)), ""),
    ],
)
def test_reasons_for_no_stack(module, reason):
    found = stacked_model.unstackable(PartitionedModel(module, set()))
    assert found.endswith(reason) if reason else not found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_row_is_aligned_alike(dtype):
    module = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3)).to(dtype)
    stack = StackedModel(PartitionedModel(module, {"1.bias"}), 5)
    for name in ("shared", "personal"):
        for matrix in stack.block(name):
            assert {row.data_ptr() % 64 for row in matrix} == {0}
