"""Combinations of several columns, against sorting tuples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.combinations import combined
from fedapm_mpi.errors import DataError

NAMES = [("a", "b", "c"), ("1", "2", "10", "11"), ("x", "y")]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 1)), min_size=1
    ),
)
def test_against_sorted_tuples(number, rows):
    rows = [row[:number] for row in rows]
    columns = [(np.array([row[k] for row in rows]), NAMES[k]) for k in range(number)]
    codes, names = combined(columns, "made")
    wanted = sorted(set(rows))
    if number == 1:  # codes are taken at their word
        wanted = [(k,) for k in range(3)]
    assert [wanted.index(row) for row in rows] == codes.tolist()
    assert names == tuple(
        " / ".join(NAMES[k][code] for k, code in enumerate(row)) for row in wanted
    )


def test_names_that_would_be_the_same():
    columns = [
        (np.array([0, 1]), ("a", "a / b")),
        (np.array([0, 1]), ("b / c", "c")),
    ]
    with pytest.raises(DataError, match=r"made: two combinations .* 'a / b / c', as "):
        combined(columns, "made")
