"""bfloat16 has the bits of torch's, and complex numbers become pairs of their parts."""

import numpy as np
import pytest
import torch

from fedapm_mpi.data.number_types import (
    LARGEST_BFLOAT16,
    all_finite,
    from_bfloat16,
    is_floating,
    largest,
    pairs,
    stored_type,
    to_bfloat16,
)


def of_torch(values):
    rounded = torch.from_numpy(values).to(torch.bfloat16)
    return rounded.view(torch.int16).numpy().view(np.uint16)


def every_kind_of_float():
    """Return float32 of every exponent and sign, with ends near every tie."""
    rng = np.random.default_rng(0)
    ends = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    upper = np.arange(2**16, dtype=np.uint32) << np.uint32(16)
    bits = np.concatenate([(upper[:, None] | ends).ravel(),
                           rng.integers(0, 2**32, 10**5, np.uint32)])  # fmt: skip
    values = bits.view(np.float32)
    return values[~np.isnan(values)]


def test_rounding_is_that_of_torch_bit_for_bit():
    values = every_kind_of_float()
    np.testing.assert_array_equal(to_bfloat16(values), of_torch(values))
    double = np.random.default_rng(1).normal(size=(100, 1000))
    np.testing.assert_array_equal(to_bfloat16(double), of_torch(double))
    half = np.arange(2**16, dtype=np.uint16).view(np.float16)
    half = half[np.isfinite(half)]
    np.testing.assert_array_equal(to_bfloat16(half), of_torch(half))


def test_what_is_not_finite_stays_so():
    bits = np.array([0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800000], np.uint32)
    found = from_bfloat16(to_bfloat16(bits.view(np.float32)))
    assert np.isnan(found).tolist() == [True, True, True, False]
    assert np.isinf(from_bfloat16(to_bfloat16(np.array([1e39, -1e300])))).all()
    assert not all_finite(to_bfloat16(np.array([1.0, np.nan])), "bfloat16")
    assert all_finite(to_bfloat16(np.array([1.0, LARGEST_BFLOAT16])), "bfloat16")


def test_every_bfloat16_comes_back():
    bits = np.arange(2**16, dtype=np.uint16).reshape(2, -1)
    wide = from_bfloat16(bits)
    there = ~np.isnan(wide)
    np.testing.assert_array_equal(to_bfloat16(wide)[there], bits[there])
    assert wide[np.isfinite(wide)].max() == largest("bfloat16") == LARGEST_BFLOAT16


def test_a_single_number():
    assert to_bfloat16(np.array(1.0)).shape == ()
    assert from_bfloat16(np.array(0x3F80, np.uint16)) == 1
    assert pairs(np.array(1 + 2j)).tolist() == [1, 2]


@pytest.mark.parametrize("kind", ["c8", ">c8", "c16"])
def test_pairs_of_any_layout(kind):
    rng = np.random.default_rng(2)
    values = (rng.normal(size=(3, 4)) + 1j * rng.normal(size=(3, 4))).astype(kind)
    for one in (values, values.T, values[::2], values[:0]):
        found = pairs(one)
        assert found.dtype == np.dtype(f"f{np.dtype(kind).itemsize // 2}")
        np.testing.assert_array_equal(found[..., 0], one.real)
        np.testing.assert_array_equal(found[..., 1], one.imag)


def test_names_of_types():
    assert stored_type("bfloat16") == np.uint16
    assert [is_floating(kind) for kind in ("bfloat16", "float16", "int8")] == [1, 1, 0]
    assert largest("int8") == 127
    assert largest("float16") == 65504
