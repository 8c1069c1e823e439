"""Per-sample gradients against single backward passes and a closed form."""

import math

import pytest
import torch
from torch import nn

from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine import fisher
from fedapm_mpi.engine.fisher import gradient_moments
from fedapm_mpi.engine.local_objective import LocalObjective
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.optim.multiplier_test import (
    GradientSums,
    Holders,
    multiplier_test,
    terms,
)
from tests.support.data.model_tasks import KU_HAR, TASKS
from tests.support.data.model_tasks import build as build_model
from tests.support.data.model_tasks import samples as draw_samples

N, FEATURES, CLASSES = 23, 4, 3


def data(n=N, seed=1):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, FEATURES, generator=rng, dtype=torch.float64)
    return x, torch.randint(0, CLASSES, (n,), generator=rng)


class Gated(nn.Module):
    """A model that a value of its input steers, which ``vmap`` cannot follow."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES)

    def forward(self, x):
        return self.head(self.body(x).relu() if float(x.sum()) > 0 else self.body(x))


def normed():
    return nn.Sequential(
        nn.Linear(FEATURES, 5),
        nn.BatchNorm1d(5),
        nn.Dropout(0.5),
        nn.Linear(5, CLASSES),
    )


MODELS = {
    "mlp": (lambda: nn.Sequential(
        nn.Linear(FEATURES, 5), nn.ReLU(), nn.Linear(5, CLASSES)), ["2.*"], True),
    "normed": (normed, ["3.*"], True),
    "gated": (Gated, ["head.*"], False),
}  # fmt: skip


def build(name):
    torch.manual_seed(5)
    make, personal, by_vmap = MODELS[name]
    module = make().double()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm1d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return PartitionedModel.from_patterns(module, personal=personal), by_vmap


def by_backward(model, x, y, part):
    """Return each sample's gradient by autograd alone, (n, d)."""
    names = {"shared": model.shared_names, "personal": model.personal_names,
             "both": model.shared_names + model.personal_names}[part]  # fmt: skip
    parameters = [dict(model.module.named_parameters())[name] for name in names]
    rows = []
    for k in range(len(y)):
        loss = nn.functional.cross_entropy(model.module(x[k : k + 1]), y[k : k + 1])
        found = torch.autograd.grad(loss, parameters)
        rows.append(torch.cat([g.reshape(-1) for g in found]))
    return torch.stack(rows)


@pytest.mark.parametrize("part", ["shared", "personal", "both"])
@pytest.mark.parametrize("vectorized", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_moments_are_those_of_single_backward_passes(
    name, vectorized, part, monkeypatch
):
    """In chunks of a few samples, the last of which is smaller."""
    model, by_vmap = build(name)
    x, y = data()
    model.module.eval()
    rows = by_backward(model, x, y, part)
    monkeypatch.setattr(fisher, "MAX_CHUNK_BYTES", 5 * rows.shape[1] * 8)
    taken = []
    together = fisher._together
    monkeypatch.setattr(
        fisher, "_together", lambda *a: taken.append(together(*a)) or taken[-1]
    )
    found = gradient_moments(model, Samples((x,), {}, y), part, vectorized=vectorized)
    assert found.samples == N
    torch.testing.assert_close(found.mean, rows.mean(0), rtol=0, atol=1e-13)
    torch.testing.assert_close(
        found.mean_square, rows.square().mean(0), rtol=0, atol=1e-13
    )
    worked = [rows is not None for rows in taken]
    assert worked == ([] if not vectorized else [True] * 5 if by_vmap else [False])


@pytest.mark.parametrize("vectorized", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_nothing_changes(name, vectorized):
    model, _ = build(name)
    model.set_trainable("personal")
    model.module.train()
    next(model.module.children()).eval()
    model.gradient.normal_()
    x, y = data()
    vectors = (model.shared, model.personal, model.gradient, *model.read_buffers())
    before = [v.clone() for v in vectors]
    modes = [m.training for m in model.module.modules()]
    trained = [p.requires_grad for p in model.module.parameters()]
    grads = [p.grad.data_ptr() for p in model.module.parameters()]
    stream = torch.get_rng_state()
    gradient_moments(model, Samples((x,), {}, y), vectorized=vectorized)
    after = (model.shared, model.personal, model.gradient, *model.read_buffers())
    assert all(map(torch.equal, before, after))
    assert modes == [m.training for m in model.module.modules()]
    assert trained == [p.requires_grad for p in model.module.parameters()]
    assert grads == [p.grad.data_ptr() for p in model.module.parameters()]
    assert torch.equal(stream, torch.get_rng_state())


NOT_BY_VMAP = ("har", "image-text", "audio-video")
"""Built-in models with recurrent layers, whose samples are taken one by one."""


def same_moments(model, samples):
    """Check both ways against each other, and the mean against the full gradient."""
    ours = gradient_moments(model, samples)
    other = gradient_moments(model, samples, vectorized=False)
    for one, two in zip(ours[:2], other[:2], strict=True):
        scale = float(two.abs().max())
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12 * max(1, scale))
    assert bool(ours.mean.any())


@pytest.mark.parametrize(("name", "inputs", "classes", "options"), TASKS)
def test_every_built_in_model(name, inputs, classes, options, monkeypatch):
    model = PartitionedModel(
        build_model(name, inputs, classes, **options).double(), set()
    )
    worked, together = [], fisher._together
    monkeypatch.setattr(
        fisher, "_together", lambda *a: worked.append(together(*a)) or worked[-1]
    )
    x = tuple(one.double() for one in draw_samples(inputs, 3))
    samples = Samples(x, {}, torch.tensor([0, 1, 0]))
    same_moments(model, samples)
    assert [rows is not None for rows in worked] == [name not in NOT_BY_VMAP]
    problem = LocalObjective(model, samples, seed=1, round_index=0, client=0)
    whole = problem.full_gradient("shared").clone()
    mean = gradient_moments(model, samples).mean
    torch.testing.assert_close(mean, whole, rtol=0, atol=1e-12)


def test_ragged_samples_are_taken_with_their_lengths():
    model = PartitionedModel(build_model("har", KU_HAR, 3).double(), set())
    x = tuple(one.double() for one in draw_samples(KU_HAR, 4))
    lengths = {"acc": torch.tensor([64, 20, 33, 8]), "gyro": torch.full((4,), 64)}
    y = torch.tensor([0, 1, 2, 0])
    samples = Samples(x, lengths, y)
    model.module.eval()
    rows = []
    for k in range(4):
        one = samples.rows(torch.tensor([k]))
        scores = model.module(*one.inputs, lengths=one.lengths)
        loss = nn.functional.cross_entropy(scores, one.targets)
        found = torch.autograd.grad(loss, list(model.module.parameters()))
        rows.append(torch.cat([g.reshape(-1) for g in found]))
    found = gradient_moments(model, samples)
    squares = torch.stack(rows).square().mean(0)
    torch.testing.assert_close(found.mean_square, squares, rtol=0, atol=1e-12)


def test_stages_that_were_applied_and_tied_parameters():
    """Samples may stand after a model's first stages; a tied parameter is one."""
    torch.manual_seed(6)
    layers = nn.Sequential(nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 4)).double()
    layers[2].weight = layers[1].weight
    x, _ = data()
    y = torch.arange(N) % 4
    model = PartitionedModel(layers, set())
    whole = gradient_moments(model, Samples((x,), {}, y))
    staged = gradient_moments(model, Samples((x.tanh(),), {}, y, 1))
    model.module.eval()
    rows = by_backward(model, x, y, "shared")
    for found in (whole, staged):
        torch.testing.assert_close(found.mean, rows.mean(0), rtol=0, atol=1e-13)
        torch.testing.assert_close(
            found.mean_square, rows.square().mean(0), rtol=0, atol=1e-13
        )


def test_logistic_regression_in_closed_form():
    """The gradient of a sample is (p - onehot(y)) x', and p - onehot(y) in the bias."""
    torch.manual_seed(2)
    module = nn.Linear(FEATURES, CLASSES).double()
    model = PartitionedModel(module, set())
    x, y = data()
    p = (x @ module.weight.T + module.bias).softmax(1).detach()
    error = p - nn.functional.one_hot(y, CLASSES)
    rows = torch.cat([(error[:, :, None] * x[:, None]).flatten(1), error], dim=1)
    found = gradient_moments(model, Samples((x,), {}, y))
    torch.testing.assert_close(found.mean, rows.mean(0), rtol=0, atol=1e-14)
    torch.testing.assert_close(found.mean_square, (rows**2).mean(0), rtol=0, atol=1e-14)


def test_without_samples_or_parameters_there_is_nothing():
    model, _ = build("mlp")
    x, y = data(0)
    found = gradient_moments(model, Samples((x,), {}, y))
    assert (found.samples, float(found.mean.abs().sum())) == (0, 0.0)
    whole = PartitionedModel(model.module, set())
    x, y = data()
    found = gradient_moments(whole, Samples((x,), {}, y), "personal")
    assert (found.samples, len(found.mean), len(found.mean_square)) == (N, 0, 0)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_lm_of_simulated_clients_is_one_plus_n_squared_difference(shift):
    """Labels are drawn from the model; with a shift, each client has other classes.

    Given its inputs, the expectation of n s^2 is n delta^2 + V in closed form: delta is
    the expected gradient, V the mean variance of a sample's. The error is four standard
    errors of the mean over clients.
    """
    rng = torch.Generator().manual_seed(4)
    torch.manual_seed(4)
    m, n = 60, 80
    model = PartitionedModel(nn.Linear(FEATURES, CLASSES).double(), set())
    moments, deltas, variances = [], [], []
    for _ in range(m):
        x = torch.randn(n, FEATURES, generator=rng, dtype=torch.float64)
        scores = model.module(x).detach()
        moved = torch.randn(CLASSES, generator=rng, dtype=torch.float64)
        own = (scores + shift * moved).softmax(1)
        y = torch.multinomial(own, 1, generator=rng)[:, 0]
        with_one = torch.cat([x, torch.ones(n, 1, dtype=torch.float64)], dim=1)
        deltas.append(layout((scores.softmax(1) - own).T @ with_one / n))
        variances.append(layout((own * (1 - own)).T @ with_one**2 / n))
        moments.append(gradient_moments(model, Samples((x,), {}, y)))
    squares = torch.stack([one.mean_square for one in moments])
    diagonal = squares.mean(0)
    scores = torch.stack([one.mean for one in moments])
    rows = [terms(one.mean, one.mean_square, n) for one in moments]
    sums = GradientSums(*torch.stack(rows).sum(0))
    weights = FEATURES * CLASSES
    layers = {"weight": slice(0, weights), "bias": slice(weights, None)}
    holders = dict.fromkeys(layers, Holders(m, m * n))
    found = multiplier_test(sums, layers, holders, damping=0.0)
    growth = n * torch.stack(deltas) ** 2 / diagonal
    expected = growth + torch.stack(variances) / diagonal
    for name, place in layers.items():
        beyond = n * scores[:, place] ** 2 / diagonal[place] - expected[:, place]
        error = 4 * float(beyond.mean(1).std()) / math.sqrt(m)
        assert abs(found[name].lm - float(expected[:, place].mean())) < error
        if not shift:
            assert not growth.any()
            assert abs(found[name].lm - 1) < error
    assert found["bias"].lm > (5 if shift else 0)


def layout(values):
    """Return (classes, features and one) values as the layer has them."""
    return torch.cat([values[:, :-1].reshape(-1), values[:, -1]])
