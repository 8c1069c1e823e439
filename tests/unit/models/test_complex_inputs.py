"""Models that take complex inputs have real and imaginary part; others refuse them."""

import pytest
import torch

from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.feature_cache import apply_constant_stages, constant_stages
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models import models
from tests.support.data.model_tasks import Input

INPUTS = (Input("z", (4, 2), ragged=True, complex=True), Input("x", (3,)))
LENGTHS = {"z": torch.tensor([4, 1, 2])}
OTHERS = ("audio-video", "cnn", "har", "image-text", "language-model", "resnet18",
          "tabular",
          "transformer", "unet")  # fmt: skip


def values():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(3, 4, 2, generator=generator, dtype=torch.complex64)
    return z, torch.randn(3, 3, generator=generator)


@pytest.mark.parametrize("name", ["mlp", "logistic"])
def test_both_parts_are_numbers_of_the_vector(name):
    module = models.get(name)(INPUTS, 5)
    assert module.flatten.width == 4 * 2 * 2 + 3
    z, x = values()
    flat = module.flatten(z, x, lengths=LENGTHS)
    assert flat.dtype == torch.float32
    parts = torch.view_as_real(z).clone()
    parts[1, 1:] = parts[2, 2:] = 0
    assert torch.equal(flat, torch.cat([parts.flatten(1), x], 1))
    module(z, x, lengths=LENGTHS).sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in module.parameters())


def test_both_parts_take_the_room_of_two_numbers():
    """Flattening them once for all takes no more than the samples do."""
    module = models.get("mlp")(INPUTS, 5)
    own = Samples(values(), LENGTHS, torch.zeros(3, dtype=torch.int64))
    found = apply_constant_stages(constant_stages(module), own)
    assert (found.stage, found.inputs[0].shape) == (1, (3, 19))


@pytest.mark.parametrize("name", OTHERS)
def test_others_refuse_them(name):
    with pytest.raises(ConfigError, match="'z' is complex, which this model does not"):
        models.get(name)(INPUTS, 5)
