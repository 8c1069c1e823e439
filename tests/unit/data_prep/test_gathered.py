"""Values that come one by one are the array that they would be at once."""

from contextlib import closing

import numpy as np
import pytest
import torch

from data_prep.gathered import Gathered, numbers
from fedapm_mpi.errors import DataError

ROWS = np.array([2, 0, 1])


def gathered(values):
    """Return the input of values, and the hash of all."""
    with closing(Gathered("x")) as made:
        for k, value in enumerate(values):
            made.add(value, f"sample {k}")
        return made.column(), made.hexdigest()


@pytest.mark.parametrize(
    "values",
    [
        np.arange(3, dtype=np.int16),
        np.arange(12.0).reshape(3, 4),
        np.arange(24, dtype=np.float16).reshape(3, 2, 4),
        np.arange(6, dtype=">u2").reshape(3, 2),
    ],
)
def test_values_of_one_shape(values):
    column = gathered(values)[0]
    assert column.lengths is None
    assert column.spec.shape == values.shape[1:]
    assert column.spec.dtype == values.dtype.newbyteorder("=").name
    assert (column.fetch(ROWS) == values[ROWS]).all()


def test_values_of_several_lengths_are_padded():
    parts = [np.full((k, 2), k, np.float32) for k in (3, 1, 2)]
    column = gathered(parts)[0]
    assert (column.spec.shape, column.spec.ragged) == ((3, 2), True)
    assert column.lengths.tolist() == [3, 1, 2]
    block = column.fetch(ROWS)
    assert block[:, :, 0].tolist() == [[2, 2, 0], [3, 3, 3], [1, 0, 0]]


def test_bytes_of_two_axes_are_grey_images():
    values = np.arange(18, dtype=np.uint8).reshape(3, 2, 3)
    column = gathered(values)[0]
    assert (column.spec.shape, column.spec.shift) == ((1, 2, 3), -1)
    assert (column.fetch(ROWS)[:, 0] == values[ROWS]).all()


def test_grey_of_16_bits_keeps_them():
    image = pytest.importorskip("PIL.Image")
    values = np.arange(12, dtype=np.uint16).reshape(3, 2, 2) * 5000
    column = gathered([image.fromarray(one) for one in values])[0]
    assert (column.spec.dtype, column.spec.scale) == ("uint16", 1 / 32767.5)
    assert (column.fetch(ROWS)[:, 0] == values[ROWS]).all()
    with pytest.raises(
        DataError, match=r"sample 1: 'x' is uint8, in earlier .* uint16"
    ):
        gathered([image.fromarray(values[0]), image.new("L", (2, 2))])


def test_an_image_among_arrays_is_named():
    image = pytest.importorskip("PIL.Image").new("L", (2, 2))
    array = np.zeros((1, 2, 2), np.uint8)
    with pytest.raises(
        DataError, match=r"sample 1: 'x' is an image, where .* an array"
    ):
        gathered([array, image])
    with pytest.raises(
        DataError, match=r"sample 1: 'x' is an array, where .* an image"
    ):
        gathered([image, array])


def test_a_hash_of_values_their_order_and_type():
    values = np.arange(6.0).reshape(3, 2)
    one = gathered(values)[1]
    assert gathered(list(values))[1] == one
    for other in (values[::-1], values.astype(np.float32), values[:2], values.T):
        assert gathered(other)[1] != one


def test_what_is_read_as_numbers():
    grown = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    assert numbers(grown, "here").dtype == np.float32
    assert numbers(np.array([True, False]), "here").dtype == np.uint8
    assert numbers([1, 2.5], "here").tolist() == [1, 2.5]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("word", "here is the text 'word', not numbers; give codes"),
        (None, "here is a NoneType, not numbers"),
        (np.array(["a"]), "here is a ndarray of <U1, not numbers"),
        ([[1], [1, 2]], "here is no array .*; give one of numbers"),
        (np.ma.masked_equal([1, 2], 2), "here has masked values; fill them"),
        (np.array([1j]), "of complex128, not numbers"),
    ],
)
def test_what_is_refused(value, message):
    with pytest.raises(DataError, match=message):
        numbers(value, "here")
