"""Rates of convergence of any sequence: laws that hold whatever its numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapm_mpi.analysis.convergence import fit_rate
from tests.unit.analysis.test_convergence import (
    T,
    assert_linear,
    assert_sublinear,
    noisy,
)

factors = st.floats(0.01, 0.98)
scales = st.floats(-100, 100).map(lambda power: 10.0**power)
few = settings(max_examples=30, deadline=None)


@few
@given(factors, scales, st.integers(40, 300), st.integers(1, 7), st.integers(0, 10**6))
def test_exact_linear_sequences_are_recovered(factor, scale, n, every, first):
    rounds = every * np.arange(n)
    values = scale * factor ** rounds[factor**rounds > 1e-200]
    if len(values) >= 8 and values[-1] < 0.3 * values[0]:
        rate = fit_rate(values, first + rounds[: len(values)])
        assert_linear(rate, factor, rel=1e-6)


@few
@given(st.floats(0.5, 6), st.floats(0.3, 20), scales, st.integers(100, 300))
def test_exact_power_laws_are_recovered(power, shift, scale, n):
    t = np.arange(n)
    rate = fit_rate(scale * (t + shift) ** -power)
    assert_sublinear(rate, power, rel=1e-3)
    assert rate.shift == pytest.approx(shift, abs=0.02)
    if 0.8 < power < 4:  # a steeper one is lost in the rounding of the limit
        rate = fit_rate(scale * (3 - (t + shift) ** -power), limit="estimate")
        assert_sublinear(rate, power, rel=0.02)


numbers = st.sampled_from([None, 0.0, 1.0]) | st.floats() | st.floats(0, 1, width=32)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(numbers, max_size=40), st.sampled_from([None, "estimate", 0.0, 1.0, 1e300])
)
def test_no_sequence_makes_it_fail(values, limit):
    rate = fit_rate(values, limit=limit)
    assert rate.kind in ("finite", "linear", "sublinear", "undecided")
    assert rate.describe().startswith(rate.kind)
    if rate.kind == "linear":
        assert 0 <= rate.factor < 1
    if rate.kind == "sublinear":
        assert 0 < rate.exponent <= 10


@few
@given(st.integers(-400, 400), st.integers(0, 10**4), st.booleans())
def test_scale_does_not_matter(power, seed, estimate):
    rng = np.random.default_rng(seed)
    plain = noisy((0.9**T, (T + 3.0) ** -1)[seed % 2], rng.uniform(0, 0.3), seed)
    limit = "estimate" if estimate else None
    one, other = fit_rate(plain, limit=limit), fit_rate(2.0**power * plain, limit=limit)
    assert other._replace(limit=0) == one._replace(limit=0)
    assert other.limit == 2.0**power * one.limit
