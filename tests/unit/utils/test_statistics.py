"""The spread of a value over clients."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fedapm_mpi.utils.statistics import Summary, summarize


def test_summary_of_one_client():
    assert summarize(np.array([0.7])) == Summary(0.7, 0.0, 0.7)


def test_summary_of_twenty_clients():
    values = np.random.default_rng(0).permutation(20) / 20
    found = summarize(values)
    assert_allclose(found, (9.5 / 20, np.std(values), 0.5 / 20))
    assert_allclose(summarize(values, lower_is_worse=False).worst_decile, 18.5 / 20)


@pytest.mark.parametrize(("m", "worst"), [(10, 0.0), (11, 0.5), (20, 0.5), (21, 1.0)])
def test_a_decile_is_rounded_up_to_whole_clients(m, worst):
    assert summarize(np.arange(m)).worst_decile == worst
    assert summarize(-np.arange(m), lower_is_worse=False).worst_decile == -worst


def test_summary_leaves_out_what_is_undefined():
    values = np.array([np.nan, 1.0, 3.0, np.nan])
    assert summarize(values) == Summary(2.0, 1.0, 1.0)
    assert summarize(values, lower_is_worse=False).worst_decile == 3.0


@pytest.mark.parametrize("values", [[], [np.nan, np.nan]])
def test_summary_of_nothing(values):
    assert np.isnan(summarize(np.array(values))).all()


def test_summary_does_not_depend_on_the_order_of_clients():
    values = np.random.default_rng(1).random(101)
    assert summarize(values) == summarize(values[::-1])
