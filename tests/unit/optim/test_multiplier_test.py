"""The multiplier test against its formula, closed forms and simulated clients."""

import math

import pytest
import torch
from torch import nn

from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.fisher import gradient_moments
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.optim.layer_test import AIC_THRESHOLD
from fedapm_mpi.optim.multiplier_test import (
    GradientSums,
    Holders,
    multiplier_test,
    terms,
)

M, D = 40, 50
LAYERS = {"first": slice(0, 20), "second": slice(20, 50)}


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


def run(scores, squares, counts, layers=LAYERS, damping=0.1):
    rows = [
        terms(s, q, int(n))
        for s, q, n in zip(scores, squares, counts.tolist(), strict=True)
    ]
    sums = GradientSums(*torch.stack(rows).sum(0))
    everyone = Holders(int((counts > 0).sum()), int(counts.sum()))
    return multiplier_test(sums, layers, dict.fromkeys(layers, everyone), damping)


def by_hand(scores, squares, counts, place, damping):
    """The formula of the module, parameter by parameter in Python's numbers."""
    held = [i for i, n in enumerate(counts.tolist()) if n]
    n = {i: counts[i].item() for i in held}
    m, total = len(held), sum(n.values())
    fisher = {j: sum(squares[i, j].item() for i in held) / m for j in range(D)[place]}
    mean = sum(fisher.values()) / len(fisher)
    above, below, squared = 0.0, 0.0, 0.0
    for j, f in fisher.items():
        s = {i: scores[i, j].item() for i in held}
        center = sum(n[i] * s[i] for i in held) / total
        w = f / (f + damping * mean)
        ratio = sum(n[i] * (s[i] - center) ** 2 / f for i in held) / (m - 1)
        above, below, squared = above + w * ratio, below + w, squared + w * w
    return above / below, below**2 / squared


@pytest.mark.parametrize("damping", [0.0, 0.1, 10.0])
@pytest.mark.parametrize("empty", [[], [0, 7]])
def test_it_is_the_formula(empty, damping):
    scores = torch.randn(M, D, generator=generator())
    squares = torch.rand(M, D, generator=generator(5), dtype=torch.float64) + 0.1
    counts = torch.randint(1, 30, (M,), generator=generator())
    counts[empty], scores[empty], squares[empty] = 0, 0, 0
    found = run(scores, squares, counts, damping=damping)
    assert list(found) == list(LAYERS)
    for name, place in LAYERS.items():
        one = found[name]
        lm, size = by_hand(scores.double(), squares, counts, place, damping)
        assert one.lm == pytest.approx(lm, rel=1e-12)
        assert one.effective_size == pytest.approx(size, rel=1e-12)
        assert (one.size, one.clients) == (place.stop - place.start, M - len(empty))


def test_it_ignores_what_all_clients_have_in_common():
    scores = torch.randn(M, D, generator=generator(), dtype=torch.float64)
    counts = torch.randint(1, 30, (M,), generator=generator())
    squares = torch.ones(M, D)
    moved = scores + torch.randn(D, generator=generator(4)).double()
    one, other = run(scores, squares, counts), run(moved, squares, counts)
    for name in LAYERS:
        assert one[name].lm == pytest.approx(other[name].lm, rel=1e-10)


def test_a_scale_of_the_parameters_changes_nothing_of_a_layer():
    """Also where layers have gradients of other sizes than each other."""
    scores = torch.randn(M, D, generator=generator(), dtype=torch.float64)
    squares = torch.rand(M, D, generator=generator(5), dtype=torch.float64)
    counts = torch.randint(1, 30, (M,), generator=generator())
    scale = torch.ones(D).double()
    scale[LAYERS["first"]] = 1e-4
    one = run(scores, squares, counts)
    other = run(scores * scale, squares * scale**2, counts)
    for name in LAYERS:
        assert one[name].lm == pytest.approx(other[name].lm, rel=1e-10)


def test_a_parameter_without_gradient_does_not_count():
    layers = {"both": slice(0, 2), "none": slice(2, 4)}
    scores = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0]])
    squares = torch.tensor([[0.0, 1.0, 0.0, 0.0]] * 2)
    found = run(scores, squares, torch.tensor([1, 1]), layers, damping=0.0)
    assert (found["both"].lm, found["both"].effective_size) == (2.0, 1.0)
    assert (found["none"].lm, found["none"].p_value) == (0.0, 1.0)


def test_gradients_of_rounding_noise_do_not_count():
    """Of a bias ahead of a softmax, whose gradient would be 0 but for rounding."""
    torch.manual_seed(1)
    module = nn.Linear(4, 3)
    model = PartitionedModel(nn.Sequential(module, SharedBias()), set())
    rows = []
    for client in range(6):
        x, y = torch.randn(40, 4), torch.randint(0, 3, (40,))
        found = gradient_moments(model, Samples((x + client,), {}, y), vectorized=False)
        rows.append((found.mean, found.mean_square))
    scores, squares = (torch.stack(column) for column in zip(*rows, strict=True))
    noise = squares[:, 15:]
    assert 0 < float(noise.max()) < 1e-12 * float(squares.max())
    layers = {"weight": slice(0, 12), "bias": slice(12, 15), "noise": slice(15, 16)}
    tests = run(scores, squares, torch.full((6,), 40), layers)
    assert (tests["noise"].lm, tests["noise"].p_value) == (0.0, 1.0)
    assert tests["weight"].lm > 1


class SharedBias(nn.Module):
    """Adds one number to all scores, which a softmax does not see."""

    def __init__(self):
        super().__init__()
        self.number = nn.Parameter(torch.tensor([0.3]))

    def forward(self, scores):
        return scores + self.number


def test_layers_of_fewer_than_two_clients_are_left_out():
    sums = GradientSums(*torch.ones(3, 4, dtype=torch.float64))
    layers = {"alone": slice(0, 2), "held": slice(2, 4)}
    holders = {"alone": Holders(1, 5), "held": Holders(2, 9)}
    assert list(multiplier_test(sums, layers, holders)) == ["held"]
    with pytest.raises(ValueError, match="'alone' has no parameters"):
        multiplier_test(sums, {"alone": slice(1, 1)}, holders)


def location_model(differences, counts, seed):
    """Return the test of clients whose samples are normal around their own means.

    The loss of a sample x is |x - u|^2/2: its gradient is u - x, the Fisher diagonal 1.
    Client means are as far from 0 as `differences`, (m, D), and u is 0.3.
    """
    noise = torch.randn(M, D, generator=generator(seed), dtype=torch.float64)
    scores = 0.3 - differences - noise / counts[:, None].sqrt()
    found = run(scores, torch.ones(M, D), counts, {"all": slice(0, D)})
    return found["all"]


def test_equal_clients_have_an_lm_of_one():
    """Wherever u is, and for any sizes; standard error of one run sqrt(2/(D (m-1)))."""
    counts = torch.arange(1.0, M + 1).double() * 3
    runs = [location_model(torch.zeros(M, D), counts, seed) for seed in range(60)]
    mean = sum(one.lm for one in runs) / len(runs)
    assert abs(mean - 1) < 4 * math.sqrt(2 / (D * (M - 1) * len(runs)))
    below = sum(one.p_value < 0.1 for one in runs) / len(runs)
    assert below < 0.1 + 3 * math.sqrt(0.1 * 0.9 / len(runs))
    assert all(one.lm < AIC_THRESHOLD for one in runs)


@pytest.mark.parametrize("n", [5.0, 50.0])
def test_different_clients_have_more_by_n_times_squared_difference(n):
    """1 + n delta^2 m/(m-1), as both directions cancel."""
    delta, counts = 0.3, torch.full((M,), n, dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0]).repeat(M // 2)[:, None].expand(M, D)
    lms = [location_model(delta * signs, counts, seed).lm for seed in range(30)]
    expected = 1 + n * delta**2 * M / (M - 1)
    # Variance of a noncentral chi-squared over its d.f.: 2 (1 + 2 n delta^2).
    error = math.sqrt(2 * (1 + 2 * n * delta**2) / (D * M * len(lms)))
    assert abs(sum(lms) / len(lms) - expected) < 4 * error
