"""Arrays that begin where torch's would, and are used as they lie."""

import numpy as np
import pytest
import torch

from fedapm_mpi.data.hdf5 import ClientArrays
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.samples import to_samples
from fedapm_mpi.utils.alignment import ALIGNMENT, aligned_empty, usable


def misaligned(shape, dtype):
    memory = aligned_empty((int(np.prod(shape)) + 1,), dtype)
    return memory[1:].reshape(shape)


def stored(x):
    return ClientArrays({"x": x}, {}, np.zeros(len(x), np.int64))


def address(samples):
    return samples.inputs[0].data_ptr()


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


@pytest.mark.parametrize(
    "x",
    [
        misaligned((4, 3), "float32"),
        np.asfortranarray(np.zeros((4, 3), np.float32)),
        np.broadcast_to(np.float32(1), (4, 3)),
    ],
)
def test_what_torch_could_not_use_is_copied(x):
    assert not usable(x)
    found = to_samples(stored(x), [InputSpec("x", (3,), "float32")], torch.float32)
    assert address(found) % ALIGNMENT == 0
    assert (found.inputs[0].numpy() == x).all()


def test_a_copy_is_made_only_where_values_change():
    x = aligned_empty((4, 3), "float32")
    x[:] = 2
    same = InputSpec("x", (3,), "float32")
    assert address(to_samples(stored(x), [same], torch.float32)) == x.ctypes.data
    scaled = InputSpec("x", (3,), "float32", scale=3.0)
    shifted = InputSpec("x", (3,), "float32", shift=1.0)
    for spec, dtype in (
        (scaled, torch.float32),
        (shifted, torch.float32),
        (same, torch.float64),
    ):
        found = to_samples(stored(x), [spec], dtype)
        assert address(found) != x.ctypes.data
    assert (x == 2).all()
