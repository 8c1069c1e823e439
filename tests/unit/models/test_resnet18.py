"""ResNet-18 against its formulas, and with buffers that clients keep or share."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.support.data.model_tasks import CIFAR10, Input, build, samples

SMALL = {"width": 8}


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_sizes_are_the_published_ones():
    """Of torchvision's for ImageNet, and of the usual one for CIFAR-10."""
    for groups in (32, None):
        large = build(
            "resnet18", (Input("x", (3, 64, 64)),), 1000, stem="large", groups=groups
        )
        assert count(large) == 11_689_512
        assert count(build("resnet18", CIFAR10, 10, groups=groups)) == 11_173_962


def normalised(p, buffers, name, x, groups, training):
    weight, bias = p[f"{name}.weight"], p[f"{name}.bias"]
    if groups:
        return F.group_norm(x, groups, weight, bias)
    mean, var = buffers[f"{name}.running_mean"], buffers[f"{name}.running_var"]
    if training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    mean, var, weight, bias = (t[:, None, None] for t in (mean, var, weight, bias))
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def plain(module, x, *, large, groups, training):
    p, buffers = dict(module.named_parameters()), dict(module.named_buffers())

    def unit(name, number, x, stride=1, pad=1):
        x = F.conv2d(x, p[f"{name}conv{number}.weight"], stride=stride, padding=pad)
        return normalised(p, buffers, f"{name}bn{number}", x, groups, training)

    x = F.relu(unit("", 1, x, 2 if large else 1, 3 if large else 1))
    x = F.max_pool2d(x, 3, 2, 1) if large else x
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            name = f"layer{stage}.{block}."
            stride = 2 if stage > 1 and block == 0 else 1
            around = x
            if stride == 2:
                around = F.conv2d(x, p[f"{name}downsample.0.weight"], stride=2)
                around = normalised(
                    p, buffers, f"{name}downsample.1", around, groups, training
                )
            x = F.relu(unit(name, 1, x, stride))
            x = F.relu(unit(name, 2, x) + around)
    return F.linear(x.mean((2, 3)), p["fc.weight"], p["fc.bias"])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("groups", [2, None])
@pytest.mark.parametrize("stem", ["small", "large"])
def test_computes_what_is_published(stem, groups, training):
    module = build("resnet18", CIFAR10, 10, stem=stem, groups=groups, **SMALL)
    (x,) = samples(CIFAR10, 6)
    module(x)  # so that running means and variances are not those they begin with
    module.train(training)
    expected = plain(module, x, large=stem == "large", groups=groups, training=training)
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)


def test_layouts_of_images():
    (x,) = samples(CIFAR10, 2)
    first = build("resnet18", CIFAR10, 10, groups=4, **SMALL)
    last = build("resnet18", (Input("x", (32, 32, 3)),), 10, groups=4, **SMALL)
    torch.testing.assert_close(first(x), last(x.permute(0, 2, 3, 1).contiguous()))


def test_only_batch_normalisation_has_buffers():
    assert not list(build("resnet18", CIFAR10, 10, groups=4, **SMALL).buffers())
    batch = build("resnet18", CIFAR10, 10, groups=None, **SMALL)
    norms = [m for m in batch.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 20
    assert len(list(batch.buffers())) == 3 * 20
