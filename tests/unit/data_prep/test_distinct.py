"""Distinct values by counting are those by sorting."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_prep.distinct import MIN_RANGE, distinct


@given(
    st.lists(st.integers(-2, 9) | st.integers(MIN_RANGE - 2, MIN_RANGE + 2)),
    st.sampled_from([np.int32, np.int64, np.uint32]),
)
def test_values_and_places_are_those_of_numpy(entries, kind):
    codes = np.array([abs(k) if kind is np.uint32 else k for k in entries], kind)
    found, places = distinct(codes)
    wanted, inverse = np.unique(codes, return_inverse=True)
    assert found.dtype == codes.dtype
    assert found.tolist() == wanted.tolist()
    assert places.tolist() == inverse.reshape(-1).tolist()


def test_codes_without_gaps_are_not_copied():
    codes = np.array([1, 0, 2, 1])
    assert distinct(codes)[1] is codes
