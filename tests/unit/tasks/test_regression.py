"""Regression: losses and metrics against torch, NumPy and scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn import metrics as reference
from torch.nn import functional

from fedapm_mpi.errors import ConfigError, TrainingError
from fedapm_mpi.tasks import Targets
from fedapm_mpi.tasks.regression import Regression, regression_metrics

TWO = Targets("real", ("speed", "mass"), mean=(10.0, -3.0), std=(2.0, 0.5))


def drawn(n=40, k=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, k)), rng.normal(size=(n, k)) * [2.0, 0.5][:k] + 10


OPTIONS = {
    "mse": ({}, lambda o, y: (o - y) ** 2),
    "mae": ({}, lambda o, y: abs(o - y)),
    "huber": (
        {"delta": 0.7},
        lambda o, y: np.where(
            abs(o - y) < 0.7, (o - y) ** 2 / 2, 0.7 * (abs(o - y) - 0.35)
        ),
    ),
    "quantile": (
        {"quantile": 0.8},
        lambda o, y: np.where(y > o, 0.8 * (y - o), 0.2 * (o - y)),
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_losses_are_of_standardised_targets(name):
    options, formula = OPTIONS[name]
    task = Regression(loss_function=name, **options).for_targets(TWO)
    outputs, targets = drawn()
    wanted = formula(outputs, (targets - [10, -3]) / [2, 0.5]).mean(axis=1)
    o, y = torch.from_numpy(outputs), torch.from_numpy(targets)
    assert_allclose(task.sample_losses(o, y), wanted, rtol=1e-12)
    assert_allclose(task.loss(o, y), wanted.mean(), rtol=1e-12)
    assert_allclose(task.loss(o, y, "sum"), wanted.sum(), rtol=1e-12)


def test_quantile_and_delta_have_usual_defaults():
    o, y = map(torch.from_numpy, drawn())
    half = Regression(loss_function="quantile", standardise=False).for_targets(TWO)
    absolute = Regression(loss_function="mae", standardise=False).for_targets(TWO)
    assert_allclose(half.loss(o, y), absolute.loss(o, y) / 2, rtol=1e-12)
    huber = Regression(loss_function="huber", standardise=False).for_targets(TWO)
    assert_allclose(huber.loss(o, y), functional.huber_loss(o, y), rtol=1e-12)


def test_counts_are_fitted_on_a_log_scale_as_they_are():
    counts = Targets("real", ("visits",), mean=(3.0,), std=(2.0,))
    task = Regression(loss_function="poisson").for_targets(counts)
    outputs, _ = drawn(k=1)
    y = np.random.default_rng(1).poisson(3, size=(40, 1)).astype(float)
    o = torch.from_numpy(outputs)
    wanted = (np.exp(outputs) - y * outputs).mean()
    assert_allclose(task.loss(o, torch.from_numpy(y)), wanted, rtol=1e-12)
    assert_allclose(task.predict(o), np.exp(outputs), rtol=1e-12)


def test_predictions_are_in_the_targets_own_units():
    task = Regression().for_targets(TWO)
    outputs, _ = drawn()
    found = task.predict(torch.from_numpy(outputs))
    assert_allclose(found, outputs * [2, 0.5] + [10, -3], rtol=1e-12)
    plain = Regression(standardise=False).for_targets(TWO)
    assert_allclose(plain.predict(torch.from_numpy(outputs)), outputs)


def test_a_constant_target_is_not_divided_by_zero():
    constant = Targets("real", ("a",), mean=(4.0,), std=(0.0,))
    task = Regression().for_targets(constant)
    o, y = torch.zeros(3, 1), torch.full((3, 1), 4.0)
    assert float(task.loss(o, y)) == 0
    assert task.predict(o).tolist() == [[4.0]] * 3


def test_targets_of_another_precision_are_taken():
    task = Regression().for_targets(TWO)
    outputs, targets = drawn()
    o, y = torch.from_numpy(outputs), torch.from_numpy(targets).float()
    assert task.loss(o, y).dtype == torch.float64
    assert_allclose(task.loss(o, y), task.loss(o, y.double()))


@pytest.mark.parametrize(("n", "k"), [(40, 1), (40, 2), (2, 2), (3, 1)])
def test_metrics_agree_with_scikit_learn(n, k):
    _, targets = drawn(n, k)
    predictions = targets + drawn(n, k, seed=2)[0]
    found = regression_metrics(predictions, targets)
    wanted = {
        "rmse": reference.root_mean_squared_error(targets, predictions),
        "mae": reference.mean_absolute_error(targets, predictions),
        "r2": reference.r2_score(targets, predictions),
    }
    assert list(found) == list(Regression.higher_is_better) == list(wanted)
    for name, value in wanted.items():
        assert_allclose(found[name], value, rtol=1e-9)


@pytest.mark.parametrize("targets", [[[5.0]], [[0.1], [0.1], [0.1]]])
def test_r2_is_undefined_where_targets_are_equal(targets):
    found = regression_metrics(np.array(targets) + 0.5, np.array(targets))
    assert np.isnan(found["r2"])
    assert found["mae"] == pytest.approx(0.5)
    both = regression_metrics(np.ones((3, 2)), np.array([[1.0, 2], [1, 3], [1, 4]]))
    assert np.isnan(both["r2"])  # of one of two targets


def test_what_is_not_finite_ends_the_run():
    with pytest.raises(TrainingError, match="predictions are not finite"):
        Regression().metrics(np.array([[np.inf]]), np.array([[1.0]]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delta": 1.0}, "delta has no effect with loss_function 'mse'"),
        ({"quantile": 0.1, "loss_function": "huber"}, "quantile has no effect"),
        ({"loss_function": "poisson", "standardise": True}, "leave standardise out"),
    ],
)
def test_options_without_effect_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Regression(**options)


def test_counts_are_not_negative():
    task = Regression(loss_function="poisson")
    with pytest.raises(ConfigError, match="mean of target 'mass' is -3"):
        task.for_targets(TWO)


def lacking(seed=5):
    """Return predictions, and targets of which each sample lacks some."""
    rng = np.random.default_rng(seed)
    predictions, targets = rng.normal(size=(2, 30, 3))
    lacked = rng.random((30, 3)) < 0.4
    lacked[np.arange(30), rng.integers(3, size=30)] = False
    return predictions, np.where(lacked, np.nan, targets)


def test_targets_that_samples_lack_count_nowhere():
    o, y = lacking()
    three = Targets("real", ("a", "b", "c"), mean=(0.0,) * 3, std=(1.0,) * 3)
    task = Regression().for_targets(replace(three, incomplete=True))
    found = task.sample_losses(*map(torch.from_numpy, (o, y)))
    assert_allclose(found, np.nanmean((o - y) ** 2, axis=1), rtol=1e-12)
    outputs = torch.from_numpy(o).requires_grad_()
    task.loss(outputs, torch.from_numpy(y), "sum").backward()
    assert torch.isfinite(outputs.grad).all()
    assert (outputs.grad.numpy()[np.isnan(y)] == 0).all()
    known = [~np.isnan(column) for column in y.T]
    pairs = [(y[k, j], o[k, j]) for j, k in enumerate(known)]
    ours = task.metrics(o, y)
    for name, score in (
        ("rmse", reference.root_mean_squared_error),
        ("mae", reference.mean_absolute_error),
        ("r2", reference.r2_score),
    ):
        assert_allclose(ours[name], np.mean([score(*p) for p in pairs]), rtol=1e-12)


def test_a_target_that_all_samples_lack_is_left_out():
    o, y = lacking()
    y[:, 1] = np.nan
    rows = ~np.isnan(y).all(axis=1)
    o, y = o[rows], y[rows]
    some = regression_metrics(o[:, [0, 2]], y[:, [0, 2]])
    assert regression_metrics(o, y) == some
