"""Networks of torchvision as models."""

import pytest
import torch

from fedapm_mpi.errors import ConfigError
from tests.support.data.model_tasks import Input, build

library = pytest.importorskip("torchvision", reason="needs the extra torchvision")

COLOUR = (Input("image", (3, 32, 32)),)


@pytest.mark.parametrize("shape", [(3, 32, 32), (32, 32, 3), (32, 32)], ids=str)
def test_a_network_is_the_librarys(shape):
    module = build("torchvision", (Input("image", shape),), 4, model="squeezenet1_1")
    torch.manual_seed(0)
    plain = library.models.get_model("squeezenet1_1", weights=None, num_classes=4)
    assert [n for n, _ in module.named_parameters()] == [
        n for n, _ in plain.named_parameters()
    ]
    image = torch.randn(2, *shape)
    first = image.movedim(-1, 1) if shape[-1] == 3 else image
    colour = first if first.ndim == 4 else first[:, None].expand(-1, 3, -1, -1)
    found = module.eval()(image)
    torch.testing.assert_close(plain.eval()(colour), found)
    assert found.shape == (2, 4)


def test_a_network_that_segments_gives_scores_of_pixels():
    module = build("torchvision", COLOUR, 4, model="lraspp_mobilenet_v3_large").eval()
    assert module(torch.randn(2, 3, 32, 32)).shape == (2, 4, 32, 32)


@pytest.mark.parametrize(
    ("inputs", "options", "said"),
    [
        (COLOUR, {"model": "resnet81"}, "no network 'resnet81'; did you mean 'resnet"),
        (COLOUR, {"model": "resnet18", "options": {"weights": "x"}}, "options.weights"),
        (COLOUR, {"model": "resnet18", "options": {"dept": 3}}, "cannot build .*dept"),
        ((Input("x", (2, 8, 8)),), {"model": "resnet18"}, "has 2 channels"),
        ((*COLOUR, Input("y", (3, 8, 8))), {"model": "resnet18"}, "is one image, not"),
    ],
)
def test_refuses(inputs, options, said):
    with pytest.raises(ConfigError, match=said):
        build("torchvision", inputs, 4, **options)
