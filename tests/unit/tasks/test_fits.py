"""Fits of linear models by whole runs against closed forms and scikit-learn."""

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn import metrics
from sklearn.linear_model import PoissonRegressor, QuantileRegressor

from data_prep.targets import counted
from fedapm_mpi.analysis.client_model import load_client_model
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.training.runner import train

CLIENTS, EACH, FEATURES = 3, 20, 2
DECAY = 0.3


def drawn():
    """Return inputs, and means of targets, that differ from client to client."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(CLIENTS * EACH, FEATURES))
    owner = np.repeat(np.arange(CLIENTS), EACH)
    slopes = [1.0, -0.5] + 0.3 * rng.normal(size=(CLIENTS, FEATURES))
    return x, (x * slopes[owner]).sum(axis=1) + 0.4, rng


def fitted(tmp_path, x, y, *, rounds, algorithm, task, **changes):
    """Return the weights and the bias of a linear model, trained on all samples."""
    made = counted(y, "real", "y")
    table = Table("t", [column("x", x)], made.codes, made.ranges, target=made.target)
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
        return model.linear.weight.double().numpy()[0], float(model.linear.bias)


def test_fedapm_reaches_the_closed_form_of_ridge_regression(tmp_path):
    """Of all clients' losses in equal parts, on standardised targets."""
    x, means, rng = drawn()
    y = 7 * (means + 0.1 * rng.normal(size=len(means))) - 100
    weights, bias = fitted(
        tmp_path, x, y, rounds=50,
        task="regression",
        split={"personal": []},
        algorithm={
            "name": "fedapm", "units": "client", "rho": 1.0, "weight_decay": DECAY,
            "lr_shared": 0.3, "lr_personal": 0.3, "batch_size": 0,
            "joint_work": {"epochs": 30},
        },
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
