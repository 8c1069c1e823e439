"""The U-Net: sizes of images, what a pixel sees, and what it refuses."""

import pytest
import torch

from fedapm_mpi.errors import ConfigError
from tests.support.data.model_tasks import Input, build, samples


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 5), (9, 6, 2), (5, 11)], ids=str)
@pytest.mark.parametrize("depth", [1, 2])
def test_every_pixel_has_scores(shape, depth):
    inputs = (Input("image", shape),)
    module = build("unet", inputs, 3, width=4, depth=depth)
    height, width = (shape[1:], shape[:2], shape)[
        0 if shape[0] <= 3 and len(shape) == 3 else 1
    ]
    found = module(*samples(inputs, 2))
    assert found.shape == (2, 3, height, width)
    found.sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_a_pixel_sees_as_far_as_its_levels_reach():
    """Further with every level; and samples do not see each other."""
    inputs = (Input("image", (64, 64)),)
    reach = []
    for depth in (1, 2, 3):
        module = build("unet", inputs, 2, width=4, depth=depth).double().eval()
        # Normalisation sees the whole image, as it is meant to; without it, a pixel.
        for name in [name for name, _ in module.named_modules()]:
            if name.endswith(("norm1", "norm2")):
                owner = module.get_submodule(name.rpartition(".")[0])
                setattr(owner, name.rpartition(".")[2], torch.nn.Identity())
        (image,) = samples(inputs, 2)
        image = image.double().requires_grad_()
        module(image)[0, :, 32, 32].sum().backward()
        assert not image.grad[1].any()
        seen = image.grad[0].abs() > 0
        reach.append(int(seen.any(dim=0).sum()))
    assert 10 < reach[0] < reach[1] < reach[2] <= 64


@pytest.mark.parametrize(
    ("inputs", "options", "said"),
    [
        ((Input("a", (8, 8)), Input("b", (8, 8))), {}, "needed is one image, not"),
        ((Input("a", (8,)),), {}, "needed is an image"),
        ((Input("a", (8, 8)),), {"width": 6}, "no multiple of 4"),
        ((Input("a", (8, 7)),), {"depth": 3}, "8 x 7 cannot be halved 3 times"),
    ],
)
def test_refuses(inputs, options, said):
    with pytest.raises(ConfigError, match=said):
        build("unet", inputs, 2, **options)
