"""What mattered, against SciPy's analysis of variance."""

import numpy as np
import pytest
from scipy.stats import f_oneway

from fedapm_mpi.studies.tune.importance import explained, importances
from fedapm_mpi.studies.tune.space import Choice, Dimension, Range, Space
from tests.support.tuning import trial

SPACE = Space(
    [
        Dimension("kind", "k", (Choice("a", 1), Choice("b", 2))),
        Dimension("x", "x", Range(0.001, 1)),
        Dimension("rare", "r", Range(1, 2)),
    ]
)


def test_the_share_is_that_of_an_analysis_of_variance():
    rng = np.random.default_rng(1)
    groups = rng.integers(3, size=30)
    values = groups * 0.4 + rng.normal(size=30)
    parts = [values[groups == k] for k in range(3)]
    f, n, k = f_oneway(*parts).statistic, 30, 3
    # epsilon squared by F, as textbooks have it
    expected = (f - 1) * (k - 1) / ((k - 1) * f + n - k)
    assert explained(values, groups.tolist()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "groups"),
    [([1, 2, 3, 4, 5, 6], [0] * 6), ([1, 2, 3], [0, 1, 1]), ([1.0] * 6, [0, 1] * 3)],
)
def test_shares_that_are_not_defined(values, groups):
    assert explained(np.array(values, dtype=float), groups) is None


def test_less_than_noise_is_nothing():
    assert explained(np.array([1.0, 3, 5, 1, 3, 5]), [0, 0, 0, 1, 1, 1]) == 0


def test_dimensions_in_the_order_of_what_they_explain():
    trials = []
    for number in range(18):
        params = {"kind": "ab"[number % 2], "x": [0.002, 0.05, 0.9][number % 3]}
        params |= {"rare": 1.5} if number < 2 else {}
        trials.append(trial(number, number % 3 + 0.1 * (number % 2), params=params))
    found = importances(SPACE, trials, higher_is_better=True)
    assert [one.name for one in found] == ["x", "kind", "rare"]
    assert found[0].share > 0.9
    assert found[0].best == "0.1 to 1"
    assert (found[2].share, found[2].trials) == (None, 2)
    found = importances(SPACE, trials, higher_is_better=False)
    assert found[0].best == "0.001 to 0.01"
