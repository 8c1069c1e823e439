"""Networks of timm as models."""

import pytest
import torch

from fedapm_mpi.errors import ConfigError
from tests.support.data.model_tasks import Input, build

pytest.importorskip("timm", reason="needs the extra timm")

SMALL = {"img_size": 16, "patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2}
VIT = {"model": "vit_tiny_patch16_224", "options": SMALL}


@pytest.mark.parametrize("shape", [(3, 16, 16), (16, 16, 1), (16, 16)], ids=str)
def test_a_network_takes_images_of_any_layout(shape):
    module = build("timm", (Input("image", shape),), 4, **VIT).eval()
    image = torch.randn(2, *shape)
    found = module(image)
    assert found.shape == (2, 4)
    assert module.patch_embed.proj.in_channels == (3 if 3 in shape else 1)
    first = image.movedim(-1, 1) if shape[-1] == 1 else image.reshape(2, -1, 16, 16)
    torch.testing.assert_close(module.head(module.forward_head(
        module.forward_features(first), pre_logits=True)), found)  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "resnet81"}, "no network 'resnet81'; did you mean 'resnet"),
        ({"model": "resnet18", "options": {"in_chans": 2}}, "options.in_chans"),
        ({"model": "resnet18", "options": {"dept": 3}}, "cannot build 'resnet18'"),
    ],
)
def test_refuses(options, said):
    with pytest.raises(ConfigError, match=said):
        build("timm", (Input("image", (3, 16, 16)),), 4, **options)
    with pytest.raises(ConfigError, match="is one image, not"):
        build("timm", (Input("x", (3, 8, 8)),) * 1 + (Input("y", (3, 8, 8)),), 4, **VIT)
