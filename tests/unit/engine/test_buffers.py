"""Buffers as flat vectors: complex ones too, and caches that are no state."""

import pytest
import torch
from torch import nn

from fedapm_mpi.engine import buffers


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([1.0, 2.0]))
        self.register_buffer("phase", torch.tensor([[1 + 2j], [3 - 4j]]))
        self.register_buffer("seen", torch.tensor(7))

    def remember(self, *, persistent):
        self.register_buffer("cache", torch.zeros(3), persistent=persistent)


def test_kinds_and_shapes():
    assert buffers.buffer_layout(Net()) == {
        "mean": ("floating", (2,)),
        "phase": ("complex", (2, 1)),
        "seen": ("integer", ()),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_flat_vector_goes_back_where_it_came_from(dtype):
    net, other = Net(), Net()
    chosen = [net.phase, net.mean]  # a pair of numbers need not begin at an even place
    flat = buffers.flatten([torch.ones(1), *chosen], dtype)
    assert flat.dtype == dtype
    assert flat.tolist() == [1, 1, 2, 3, -4, 1, 2]
    assert buffers.count_reals(net.phase) == 4
    buffers.scatter([torch.zeros(1), other.phase, other.mean], 2 * flat)
    assert torch.equal(other.phase, 2 * net.phase)
    assert torch.equal(other.mean, 2 * net.mean)
    assert buffers.flatten([], dtype).shape == (0,)


def test_conjugates_are_resolved():
    conjugate = torch.tensor([1 + 2j]).conj()
    assert buffers.flatten([conjugate], torch.float64).tolist() == [1, -2]


@pytest.mark.parametrize(("persistent", "kept"), [(True, True), (False, False)])
def test_what_forward_registers_is_state_only_if_it_is_persistent(persistent, kept):
    net = Net()
    known = buffers.buffer_layout(net)
    assert [name for name, _ in buffers.kept_buffers(net, known)] == list(known)
    net.remember(persistent=persistent)
    names = [name for name, _ in buffers.kept_buffers(net, known)]
    assert ("cache" in names) == kept
    assert names[:3] == list(known)


def test_a_buffer_that_changes_is_named():
    before = {"a": ("floating", (2,)), "b": ("integer", ())}
    reported = buffers.changed_buffer(before, {**before, "b": ("integer", (3,))})
    assert "the buffer 'b' changes" in reported
    assert "before: integer (), after: integer (3,)" in reported
    reported = buffers.changed_buffer(before, {"a": before["a"]})
    assert "before: integer (), after: absent" in reported
