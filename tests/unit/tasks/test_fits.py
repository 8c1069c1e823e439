"""Fits of linear models by whole runs against closed forms and scikit-learn."""

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn import metrics
from sklearn.linear_model import PoissonRegressor, QuantileRegressor, Ridge

from data_prep.targets import counted
from fedapm_mpi.analysis.client_model import load_client_model
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.training.runner import train

CLIENTS, EACH, FEATURES = 3, 20, 2
DECAY = 0.3
RIDGE = {
    "name": "fedapm", "units": "client", "rho": 1.0, "weight_decay": DECAY,
    "lr_shared": 0.3, "lr_personal": 0.3, "batch_size": 0, "joint_work": {"epochs": 30},
}  # fmt: skip


def drawn():
    """Return inputs, and means of targets, that differ from client to client."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(CLIENTS * EACH, FEATURES))
    owner = np.repeat(np.arange(CLIENTS), EACH)
    slopes = [1.0, -0.5] + 0.3 * rng.normal(size=(CLIENTS, FEATURES))
    return x, (x * slopes[owner]).sum(axis=1) + 0.4, rng


def fitted(
    tmp_path,
    x,
    y,
    *,
    rounds,
    algorithm,
    task,
    weights=None,
    incomplete=False,
    **changes,
):
    """Return the weights and the bias of a linear model, trained on all samples."""
    made = counted(y, "real", "y", incomplete=incomplete)
    table = Table(
        "t", [column("x", x)], made.codes, made.ranges, target=made.target,
        weights=weights,
    )  # fmt: skip
    rows = np.split(np.arange(len(x)), CLIENTS)
    write_dataset(tmp_path / "d", table, {"train": rows, "test": rows})
    config = {
        "data": str(tmp_path / "d"),
        "model": "logistic",
        "algorithm": algorithm,
        "task": task,
        "rounds": rounds,
        "dtype": "float64",
        "evaluation": {"every": rounds},
        "checkpoint": {"every": rounds},
    }
    wanted = validate(config | changes, "test")
    train(Serial(), wanted, directory=tmp_path / "run", progress="none")
    model = load_client_model(tmp_path / "run", 0)
    with torch.no_grad():
        found = model.linear.weight.double().numpy(), model.linear.bias.numpy()
        return found if y.ndim > 1 else (found[0][0], float(found[1][0]))


def test_fedapm_reaches_the_closed_form_of_ridge_regression(tmp_path):
    """Of all clients' losses in equal parts, on standardised targets."""
    x, means, rng = drawn()
    y = 7 * (means + 0.1 * rng.normal(size=len(means))) - 100
    weights, bias = fitted(
        tmp_path, x, y, rounds=50,
        task="regression",
        split={"personal": []},
        algorithm=RIDGE,
    )  # fmt: skip
    design = np.column_stack([x, np.ones(len(x))])
    target = (y - y.mean()) / y.std()
    # The gradient of the mean square is twice that of its half.
    gram = 2 * design.T @ design / len(x) + DECAY * np.eye(FEATURES + 1)
    closed = np.linalg.solve(gram, 2 * design.T @ target / len(x))
    assert_allclose([*weights, bias], closed, atol=1e-8)
    predicted = (design @ closed) * y.std() + y.mean()
    record = json.loads((tmp_path / "run" / "rounds.jsonl").read_text().split("\n")[-2])
    pooled, rows = record["pooled"], np.arange(len(y)).reshape(CLIENTS, EACH)
    assert_allclose(pooled["rmse"], metrics.root_mean_squared_error(y, predicted), 1e-5)
    assert_allclose(pooled["r2"], metrics.r2_score(y, predicted), 1e-5)
    each = [metrics.mean_absolute_error(y[own], predicted[own]) for own in rows]
    assert_allclose(record["mae"], np.mean(each), 1e-5)
    assert_allclose(record["mae_worst_decile"], max(each), 1e-5)


def test_weights_of_samples_are_those_of_weighted_least_squares(tmp_path):
    x, means, rng = drawn()
    y = means + 0.3 * rng.normal(size=len(means))
    given = rng.integers(1, 9, len(y)) / 2
    weights, bias = fitted(
        tmp_path, x, y, rounds=50, weights=given, task="regression",
        split={"personal": []}, algorithm=RIDGE,
    )  # fmt: skip
    relative = given.reshape(CLIENTS, EACH)
    relative = (relative / relative.mean(axis=1, keepdims=True)).reshape(-1)
    target = (y - y.mean()) / y.std()
    # A column of ones, so that the bias is penalised as well.
    design = np.column_stack([x, np.ones(len(x))])
    wanted = Ridge(alpha=DECAY * len(x) / 2, fit_intercept=False, tol=1e-12).fit(
        design, target, sample_weight=relative
    )
    assert_allclose([*weights, bias], wanted.coef_, atol=1e-8)
    record = json.loads((tmp_path / "run" / "rounds.jsonl").read_text().split("\n")[-2])
    errors = (design @ wanted.coef_ - target) ** 2
    assert_allclose(record["loss"], np.average(errors, weights=relative), rtol=1e-6)
    predicted = design @ wanted.coef_ * y.std() + y.mean()
    assert_allclose(
        record["pooled"]["rmse"], metrics.root_mean_squared_error(y, predicted), 1e-5
    )


def test_a_target_that_samples_lack_is_fitted_on_the_others(tmp_path):
    """Two targets of which no sample has both are fitted as each alone."""
    x, means, rng = drawn()
    y = np.column_stack([means, 3 - means]) + 0.3 * rng.normal(size=(len(means), 2))
    first = np.arange(len(y)) % 3 > 0
    y[first, 1], y[~first, 0] = np.nan, np.nan
    weights, biases = fitted(
        tmp_path, x, y, rounds=80, incomplete=True, split={"personal": []},
        task={"name": "regression", "standardise": False}, algorithm=RIDGE,
    )  # fmt: skip
    design = np.column_stack([x, np.ones(len(x))])
    for k, rows in enumerate((first, ~first)):
        wanted = Ridge(alpha=DECAY * len(x) / 2, fit_intercept=False, tol=1e-12).fit(
            design[rows], y[rows, k]
        )
        assert_allclose([*weights[k], biases[k]], wanted.coef_, atol=1e-8)
    record = json.loads((tmp_path / "run" / "rounds.jsonl").read_text().split("\n")[-2])
    predicted = design @ np.column_stack([weights, biases]).T
    each = [
        metrics.mean_absolute_error(y[rows, k], predicted[rows, k])
        for k, rows in enumerate((first, ~first))
    ]
    assert_allclose(record["pooled"]["mae"], np.mean(each), 1e-5)


def test_a_fit_of_counts_agrees_with_scikit_learn(tmp_path):
    x, means, rng = drawn()
    y = rng.poisson(np.exp(means)).astype(float)
    weights, bias = fitted(
        tmp_path, x, y, rounds=110,
        task={"name": "regression", "loss_function": "poisson"},
        split={"personal": []},
        algorithm={
            "name": "fedapm", "units": "client", "rho": 1.0, "lr_shared": 0.03,
            "lr_personal": 0.03, "batch_size": 0, "joint_work": {"epochs": 30},
        },
    )  # fmt: skip
    wanted = PoissonRegressor(alpha=0, tol=1e-12, max_iter=1000).fit(x, y)
    assert_allclose([*weights, bias], [*wanted.coef_, wanted.intercept_], atol=1e-4)


@pytest.mark.parametrize("quantile", [0.5, 0.8])
def test_a_fit_of_a_quantile_agrees_with_scikit_learn(tmp_path, quantile):
    x, means, rng = drawn()
    y = means + rng.normal(size=len(means))
    weights, bias = fitted(
        tmp_path, x, y, rounds=500,
        task={
            "name": "regression", "loss_function": "quantile", "quantile": quantile,
            "standardise": False,
        },
        schedule={"name": "exponential", "gamma": 0.983},
        algorithm={"name": "fedavg", "lr": 1.0, "batch_size": 0, "work": {"steps": 1}},
    )  # fmt: skip
    wanted = QuantileRegressor(quantile=quantile, alpha=0).fit(x, y)

    def loss(w, b):
        error = y - x @ w - b
        return np.maximum(quantile * error, (quantile - 1) * error).mean()

    best = loss(wanted.coef_, wanted.intercept_)
    assert best <= loss(weights, bias) + 1e-12
    assert_allclose(loss(weights, bias), best, atol=1e-4)
