"""Rows of lists are the arrays that NumPy makes of them."""

import numpy as np
import pyarrow as pa
import pytest

from data_prep.arrow_lists import arrays, is_list_of_numbers
from fedapm_mpi.errors import DataError

ROWS = {
    "flat": (pa.list_(pa.int16()), [[1, 2], [3], [4, 5, 6]]),
    "large": (pa.large_list(pa.float64()), [[0.5], [1.5, 2.5]]),
    "fixed": (pa.list_(pa.float32(), 2), [[1, 2], [3, 4]]),
    "nested": (pa.list_(pa.list_(pa.uint8())), [[[1, 2]], [[3, 4], [5, 6]]]),
    "deep": (pa.list_(pa.list_(pa.list_(pa.int64(), 2))), [[[[1, 2]], [[3, 4]]]]),
    "truth": (pa.list_(pa.bool_()), [[True, False]]),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_arrays(name):
    of, rows = ROWS[name]
    assert is_list_of_numbers(of)
    column = pa.array([rows[0], *rows], of).slice(1)
    for made, row in zip(arrays(column, "x", 0, "f"), rows, strict=True):
        assert made.tolist() == row
        assert made.dtype == np.array(row, made.dtype).dtype


def test_other_types_are_not_lists_of_numbers():
    for of in (pa.int8(), pa.list_(pa.string()), pa.struct({"a": pa.int8()})):
        assert not is_list_of_numbers(of)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (None, "f, row 8: column 'x' has no value; leave such rows out, or drop=.x."),
        ([[1], [1, 2]], "f, row 8: column 'x' has lists of 1 and 2 entries within"),
        ([[1], None], "column 'x' has a missing list within"),
        ([[1, None]], "column 'x' has a missing entry"),
    ],
)
def test_what_makes_no_array_is_named(row, message):
    column = pa.array([[[1]], row], pa.list_(pa.list_(pa.int8())))
    with pytest.raises(DataError, match=message):
        list(arrays(column, "x", 7, "f"))
