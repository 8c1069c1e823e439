"""Modules that take inputs by name, in whatever order the data set has them."""

import copy

import pytest
import torch
from torch import nn

from fedapm_mpi.models.layers.named_inputs import (
    ImageInput,
    needs_names,
    parameters_of,
    pass_by_name,
)
from tests.support.data.model_tasks import Input


class ByName(nn.Module):
    def forward(self, gyro, acc, attention_mask=None):
        return gyro, acc, attention_mask


class ByPlace(nn.Module):
    def forward(self, acc, gyro, lengths=None):
        return acc, gyro, lengths


class Anything(nn.Module):
    def forward(self, *inputs, **named):
        return inputs, named


ACC, GYRO = torch.arange(6).reshape(2, 3), torch.zeros(2, 4)
INPUTS = (Input("acc", (3,), ragged=True), Input("gyro", (4,)))


def test_inputs_and_lengths_arrive_under_their_names():
    module = ByName()
    pass_by_name(module, INPUTS)
    for one in (module, copy.deepcopy(module)):
        gyro, acc, mask = one(ACC, GYRO, lengths={"acc": torch.tensor([3, 1])})
        assert torch.equal(gyro, GYRO)
        assert torch.equal(acc, ACC)
        assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
        assert one(ACC, GYRO)[2] is None
        given = one(gyro=GYRO, acc=ACC, attention_mask="own")
        assert given[2] == "own", "called by other code"


def test_the_mask_is_that_of_the_tokens():
    inputs = (INPUTS[0], Input("gyro", (4,), ragged=True, codes=7))
    module = ByName()
    pass_by_name(module, inputs)
    lengths = {"acc": torch.tensor([3, 1]), "gyro": torch.tensor([2, 4])}
    mask = module(ACC, GYRO, lengths=lengths)[2]
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("module", "ragged", "needs"),
    [
        (ByName(), False, True),  # in another order
        (ByName(), True, True),
        (ByPlace(), False, False),
        (ByPlace(), True, False),
        (Anything(), True, False),
        (nn.Linear(3, 3), False, False),
    ],
)
def test_what_needs_names(module, ragged, needs):
    inputs = (Input("acc", (3,), ragged=ragged), INPUTS[1])
    assert needs_names(module, inputs) == needs


def test_names_in_order_need_none_unless_lengths_are_masks():
    swapped = (Input("gyro", (4,)), Input("acc", (3,)))
    assert not needs_names(ByName(), swapped)
    assert needs_names(ByName(), (swapped[0], INPUTS[0]))
    assert parameters_of(Anything()) == ()


@pytest.mark.parametrize(
    ("shape", "last", "channels", "found"),
    [
        ((5, 4), False, 3, (3, 5, 4)),
        ((5, 4, 3), True, 3, (3, 5, 4)),
        ((3, 5, 4), False, 3, (3, 5, 4)),
        ((1, 5, 4), False, 1, (1, 5, 4)),
    ],
)
def test_images_come_channels_first(shape, last, channels, found):
    image = torch.randn(2, *shape)
    (made,) = ImageInput(0, last, channels)(nn.Identity(), (image,))
    assert made.shape == (2, *found)
    assert torch.equal(made[:, 0], image[..., 0] if last else made[:, 0])
