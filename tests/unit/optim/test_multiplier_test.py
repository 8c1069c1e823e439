"""The multiplier test against closed forms and simulated clients."""

import math

import pytest
import torch

from fedapm_mpi.optim.multiplier_test import (
    AIC_THRESHOLD,
    Candidate,
    LayerTest,
    chi_squared_tail,
    chi_squared_threshold,
    damped_fisher,
    multiplier_test,
    smallest_sufficient,
)

M, D = 40, 50
LAYERS = {"first": slice(0, 20), "second": slice(20, 50)}


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


def by_hand(scores, counts, fisher, place):
    total, clients = 0.0, 0
    for s, n in zip(scores.tolist(), counts.tolist(), strict=True):
        if n:
            clients += 1
            terms = [n * s[j] ** 2 / float(fisher[j]) for j in range(D)[place]]
            total += sum(terms) / len(terms)
    return total / clients


@pytest.mark.parametrize("empty", [[], [0, 7]])
def test_it_is_the_formula(empty):
    scores = torch.randn(M, D, generator=generator())
    counts = torch.randint(1, 30, (M,), generator=generator())
    counts[empty] = 0
    fisher = torch.rand(D, generator=generator(), dtype=torch.float64) + 0.1
    found = multiplier_test(scores, counts, fisher, LAYERS)
    assert list(found) == list(LAYERS)
    for name, place in LAYERS.items():
        one = found[name]
        expected = by_hand(scores.double(), counts, fisher, place)
        assert one.lm == pytest.approx(expected, rel=1e-12)
        assert (one.size, one.clients) == (place.stop - place.start, M - len(empty))
        assert one.statistic == pytest.approx(one.lm * one.size * one.clients)
        assert one.degrees == one.size * (one.clients - 1)


def test_centered_ignores_what_all_clients_have_in_common():
    scores = torch.randn(M, D, generator=generator(), dtype=torch.float64)
    counts = torch.randint(1, 30, (M,), generator=generator())
    fisher = torch.ones(D)
    moved = scores + torch.randn(D, generator=generator(4)).double()
    one = multiplier_test(scores, counts, fisher, LAYERS, centered=True)
    other = multiplier_test(moved, counts, fisher, LAYERS, centered=True)
    for name in LAYERS:
        assert one[name].lm == pytest.approx(other[name].lm, rel=1e-10)


def test_the_fisher_diagonal_is_a_mean_over_clients_damped():
    squares = torch.tensor([[4.0, 0.0], [0.0, 0.0]])
    assert damped_fisher(squares, 0.0).tolist() == [2.0, 0.0]
    assert damped_fisher(squares, 0.5).tolist() == [2.5, 0.5]
    assert damped_fisher(torch.zeros(3, 0)).shape == (0,)


def test_a_parameter_without_gradient_counts_as_none():
    scores = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    counts = torch.tensor([1, 1])
    layers = {"both": slice(0, 2)}
    found = multiplier_test(scores, counts, torch.tensor([0.0, 1.0]), layers)
    assert found["both"].lm == 0.5


def test_what_does_not_fit_is_refused():
    good = torch.zeros(2, 3), torch.ones(2), torch.ones(3)
    for scores, counts, fisher, layers, words in (
        (good[0], good[1], torch.ones(4), {}, r"shape \(2, 3\), with 2 clients and 4"),
        (*good, {"none": slice(1, 1)}, "'none' has no parameters"),
        (good[0], torch.zeros(2), good[2], {}, "no client has samples"),
    ):
        with pytest.raises(ValueError, match=words):
            multiplier_test(scores, counts, fisher, layers)


def location_model(differences, counts, seed):
    """Return LM of clients whose samples are normal around their own means.

    The loss of a sample x is |x - u|^2/2: its gradient is u - x, the Fisher diagonal 1;
    u minimises the sum of all. Client means are as far from 0 as `differences`, (m, D).
    """
    rng = generator(seed)
    means = differences + torch.randn(M, D, generator=rng, dtype=torch.float64) / (
        counts[:, None].sqrt()
    )
    u = (counts[:, None] * means).sum(0) / counts.sum()
    scores = u - means
    fisher = torch.ones(D, dtype=torch.float64)
    return multiplier_test(scores, counts, fisher, {"all": slice(0, D)})["all"]


def test_equal_clients_have_an_lm_of_one():
    """(m - 1)/m exactly, as u is fitted; standard error of one run sqrt(2/(D m))."""
    counts = torch.arange(1.0, M + 1).double() * 3
    runs = [location_model(torch.zeros(M, D), counts, seed) for seed in range(60)]
    mean = sum(one.lm for one in runs) / len(runs)
    assert abs(mean - (M - 1) / M) < 4 * math.sqrt(2 / (D * M * len(runs)))
    below = sum(one.p_value < 0.1 for one in runs) / len(runs)
    assert below < 0.1 + 3 * math.sqrt(0.1 * 0.9 / len(runs))
    assert all(one.lm < AIC_THRESHOLD for one in runs)


@pytest.mark.parametrize("n", [5.0, 50.0])
def test_different_clients_have_more_by_n_times_squared_difference(n):
    """1 + n delta^2/F; both directions cancel, so that u stays at 0."""
    delta, counts = 0.3, torch.full((M,), n, dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0]).repeat(M // 2)[:, None].expand(M, D)
    lms = [location_model(delta * signs, counts, seed).lm for seed in range(30)]
    expected = (M - 1) / M + n * delta**2
    # Variance of a noncentral chi-squared over its d.f.: 2 (1 + 2 n delta^2).
    error = math.sqrt(2 * (1 + 2 * n * delta**2) / (D * M * len(lms)))
    assert abs(sum(lms) / len(lms) - expected) < 4 * error


@pytest.mark.parametrize(
    ("degrees", "within"), [(2, 0.01), (10, 1e-3), (40, 5e-4), (200, 1e-4)]
)
def test_the_tail_is_that_of_chi_squared(degrees, within):
    """For an even number of degrees the tail is a Poisson sum."""
    for ratio in (0.2, 0.5, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0):
        half = ratio * degrees / 2
        logs = [k * math.log(half) - half - math.lgamma(k + 1)
                for k in range(degrees // 2)]  # fmt: skip
        exact = sum(map(math.exp, logs))
        assert abs(chi_squared_tail(ratio * degrees, degrees) - exact) < within


@pytest.mark.parametrize("level", [0.01, 0.05, 0.5])
@pytest.mark.parametrize(("clients", "size"), [(20, 1), (5, 200)])
def test_the_threshold_has_the_level_as_its_tail(level, clients, size):
    lm = chi_squared_threshold(level, clients, size)
    assert LayerTest(size, clients, lm).p_value == pytest.approx(level, rel=1e-9)


def test_the_smallest_set_below_the_threshold_is_chosen():
    nothing = Candidate("nothing", 0, {"W": 3.0, "b": 5.0})
    bias = Candidate("bias", 3, {"W": 1.9})
    head = Candidate("head", 30, {"b": 0.5})
    everything = Candidate("all", 100, {})
    every = [everything, head, bias, nothing]
    assert smallest_sufficient(every) is bias
    assert smallest_sufficient(every, 1.5) is head
    assert smallest_sufficient(every, {"W": 2.0, "b": 0.4}) is bias
    assert smallest_sufficient(every, 0.1) is everything
    assert smallest_sufficient([nothing, bias], 1.0) is None
    assert smallest_sufficient([Candidate("one", 3, {}), bias]).name == "one"
    assert LayerTest(5, 1, 3.0).p_value == 1.0
