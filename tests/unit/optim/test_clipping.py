"""Clipping, compared with torch.nn.utils and with its formula."""

import pytest
import torch
from torch.nn.utils import clip_grad_value_

from fedapm_mpi.optim.clip_options import Clip
from fedapm_mpi.optim.clipping import clip_gradients


def a_pair(scale=1.0):
    generator = torch.Generator().manual_seed(1)
    make = [torch.randn(n, generator=generator, dtype=torch.float64) for n in (4, 3)]
    return [scale * one for one in make]


def test_a_joint_norm_is_that_of_both_blocks():
    found, before = a_pair(), a_pair()
    assert bool(clip_gradients(found, Clip(norm=0.5)))
    assert float(torch.cat(found).norm()) == pytest.approx(0.5, rel=1e-14)
    scale = 0.5 / torch.cat(before).norm()
    for one, other in zip(found, before, strict=True):
        torch.testing.assert_close(one, other * scale, rtol=1e-14, atol=0)


def test_each_block_has_its_own_norm():
    found, before = a_pair(), a_pair()
    bound = float(before[0].norm()) * 1.01
    assert float(before[1].norm()) > bound, "the control: one of them is longer"
    assert bool(clip_gradients(found, Clip(norm=bound, blocks="separate")))
    assert float(found[1].norm()) == pytest.approx(bound, rel=1e-14)
    assert torch.equal(found[0], before[0])


@pytest.mark.parametrize("clip", [Clip(norm=1e6), Clip(value=1e6)])
def test_what_is_within_the_bound_keeps_its_bits(clip):
    found, before = a_pair(), a_pair()
    assert not bool(clip_gradients(found, clip))
    assert all(torch.equal(*pair) for pair in zip(found, before, strict=True))


def test_values_are_cut_as_by_torch():
    found, others = a_pair(), a_pair()
    assert bool(clip_gradients(found, Clip(value=0.3)))
    for one in others:
        one.grad = one.clone()
    clip_grad_value_(others, 0.3)
    pairs = zip(found, others, strict=True)
    assert all(torch.equal(one, other.grad) for one, other in pairs)


def test_zeros_and_empty_blocks():
    for clip in (Clip(norm=0.1), Clip(value=0.1), Clip(norm=0.1, blocks="separate")):
        found = [torch.zeros(3), torch.zeros(0)]
        assert not bool(clip_gradients(found, clip))
        assert found[0].tolist() == [0.0] * 3


def test_nan_is_not_hidden():
    found = [torch.tensor([1.0, torch.nan])]
    clip_gradients(found, Clip(norm=0.1))
    assert found[0].isnan().any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one"),
        ({"norm": 1.0, "value": 1.0}, "exactly one"),
        ({"value": 1.0, "blocks": "separate"}, "no effect on value"),
    ],
)
def test_bounds_that_are_none(options, message):
    with pytest.raises(ValueError, match=message):
        Clip(**options)
