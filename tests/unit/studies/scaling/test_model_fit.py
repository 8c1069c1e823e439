"""Nonnegative least squares, and terms that are dropped."""

import numpy as np
import pytest

from fedapm_mpi.studies.scaling.model_fit import fit, nonnegative


def test_nonnegative_least_squares_against_a_grid():
    rng = np.random.default_rng(1)
    matrix = rng.uniform(0, 1, (30, 2))
    target = matrix @ [2.0, -0.5] + 0.01 * rng.standard_normal(30)
    found = nonnegative(matrix, target)
    assert found[1] == 0
    grid = np.linspace(0, 3, 30001)
    errors = ((np.outer(grid, matrix[:, 0]) - target) ** 2).sum(axis=1)
    assert found[0] == pytest.approx(grid[errors.argmin()], abs=1e-4)


def test_a_term_that_is_only_noise_is_not_taken():
    rng = np.random.default_rng(2)
    x = np.arange(1.0, 21.0)
    terms = {"1": np.ones(20), "x": x, "noise": rng.uniform(0, 1, 20)}
    target = 2 + 3 * x + 0.01 * rng.standard_normal(20)
    found = fit(terms, target).coefficients
    assert found["noise"] == 0
    assert found["x"] == pytest.approx(3, rel=1e-2)


def test_terms_that_cannot_be_distinguished_are_dropped_later_ones_first():
    ones = np.ones(4)
    terms = {"1": ones, "zero": 0 * ones, "twice": 2 * ones, "x": np.arange(1.0, 5.0)}
    found = fit(terms, 1 + terms["x"])
    assert found.dropped == ["zero", "twice"]
    assert found.coefficients == pytest.approx({"1": 1, "x": 1})
    assert fit({"zero": 0 * ones}, ones).coefficients == {}
