"""Arrays that begin where torch's would, and are used as they lie."""

import pytest

from fedapm_mpi.utils.alignment import ALIGNMENT, aligned_empty, usable


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "float16"])
def test_every_array_begins_at_a_multiple(dtype):
    kept = []
    for n in range(1, 40):
        kept.append(aligned_empty((n, 3), dtype))
        assert kept[-1].shape == (n, 3)
        assert kept[-1].dtype == dtype
        assert kept[-1].ctypes.data % ALIGNMENT == 0
        assert usable(kept[-1])
    assert aligned_empty((0, 3), dtype).size == 0
