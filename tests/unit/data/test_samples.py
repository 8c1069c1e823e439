"""Samples as tensors: copied only where they must be."""

import numpy as np
import pytest
import torch

from fedapm_mpi.data.hdf5 import ClientArrays
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.samples import to_samples
from fedapm_mpi.utils.alignment import ALIGNMENT, aligned_empty, usable


def misaligned(shape, dtype):
    memory = aligned_empty((int(np.prod(shape)) + 1,), dtype)
    memory[:] = 1  # what lies there may be NaN, which equals nothing
    return memory[1:].reshape(shape)


def stored(x):
    return ClientArrays({"x": x}, {}, np.zeros(len(x), np.int64))


def address(samples):
    return samples.inputs[0].data_ptr()


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
