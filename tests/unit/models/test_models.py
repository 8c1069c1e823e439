"""The models: their parameters, what they compute, and what they refuse."""

from math import log

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models import models
from fedapm_mpi.models.base import PREFIXES
from fedapm_mpi.models.layers.padding import valid_mask
from tests.support.data.model_tasks import (
    CIFAR10,
    CREMA_D,
    CRISIS_MMD,
    KU_HAR,
    TASKS,
    Input,
    build,
    samples,
)

CNN_PARAMETERS = [
    ("conv1.weight", (16, 3, 3, 3)),
    ("conv1.bias", (16,)),
    ("conv2.weight", (32, 16, 3, 3)),
    ("conv2.bias", (32,)),
    ("fc1.weight", (128, 2048)),
    ("fc1.bias", (128,)),
    ("fc2.weight", (10, 128)),
    ("fc2.bias", (10,)),
]
HAR_PARAMETERS = [
    ("acc_conv.conv1.weight", (32, 3, 5)),
    ("acc_conv.conv1.bias", (32,)),
    ("acc_conv.conv2.weight", (64, 32, 5)),
    ("acc_conv.conv2.bias", (64,)),
    ("acc_conv.conv3.weight", (128, 64, 5)),
    ("acc_conv.conv3.bias", (128,)),
    ("gyro_conv.conv1.weight", (32, 3, 5)),
    ("gyro_conv.conv1.bias", (32,)),
    ("gyro_conv.conv2.weight", (64, 32, 5)),
    ("gyro_conv.conv2.bias", (64,)),
    ("gyro_conv.conv3.weight", (128, 64, 5)),
    ("gyro_conv.conv3.bias", (128,)),
    ("acc_rnn.weight_ih_l0", (384, 128)),
    ("acc_rnn.weight_hh_l0", (384, 128)),
    ("acc_rnn.bias_ih_l0", (384,)),
    ("acc_rnn.bias_hh_l0", (384,)),
    ("gyro_rnn.weight_ih_l0", (384, 128)),
    ("gyro_rnn.weight_hh_l0", (384, 128)),
    ("gyro_rnn.bias_ih_l0", (384,)),
    ("gyro_rnn.bias_hh_l0", (384,)),
    ("fuse_att.att_fc1.weight", (512, 128)),
    ("fuse_att.att_fc1.bias", (512,)),
    ("fuse_att.att_fc2.weight", (6, 512)),
    ("fuse_att.att_fc2.bias", (6,)),
    ("classifier.0.weight", (64, 768)),
    ("classifier.0.bias", (64,)),
    ("classifier.3.weight", (8, 64)),
    ("classifier.3.bias", (8,)),
]


def shapes(module):
    return [(name, tuple(p.shape)) for name, p in module.named_parameters()]


def count(module, *prefixes):
    return sum(
        p.numel() for name, p in module.named_parameters() if name.startswith(prefixes)
    )


def test_names():
    assert models.names() == [
        "audio-video", "cnn", "har", "hf", "image-text", "language-model", "logistic",
        "lora", "mlp", "resnet18", "tabular", "timm", "torchvision", "transformer",
        "unet",
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(3, 32, 32), (32, 32, 3)])
def test_parameters_of_the_cnn(shape):
    module = build("cnn", (Input("image", shape),), 10)
    assert shapes(module) == CNN_PARAMETERS
    assert count(module, "") == 268_650
    assert count(module, "conv") == 5_088
    assert round(count(module, "conv") / count(module, ""), 4) == 0.0189


def test_parameters_of_har():
    module = build("har", KU_HAR, 8)
    shared = ("acc_rnn.", "gyro_rnn.", "fuse_att.", "classifier.")
    assert shapes(module) == HAR_PARAMETERS
    assert count(module, "") == 420_814
    assert count(module, *shared) == 317_006
    assert round(count(module, *shared) / count(module, ""), 4) == 0.7533


def test_parameters_of_mlp_and_logistic():
    inputs = (Input("a", (4, 3)), Input("b", (5,)))
    assert shapes(build("mlp", inputs, 6, hidden=(7, 8))) == [
        ("body.0.weight", (7, 17)),
        ("body.0.bias", (7,)),
        ("body.2.weight", (8, 7)),
        ("body.2.bias", (8,)),
        ("head.weight", (6, 8)),
        ("head.bias", (6,)),
    ]
    assert shapes(build("logistic", inputs, 6)) == [
        ("linear.weight", (6, 17)),
        ("linear.bias", (6,)),
    ]


@pytest.mark.parametrize(("name", "inputs", "classes", "options"), TASKS)
def test_every_tensor_of_the_state_is_a_parameter(name, inputs, classes, options):
    module = build(name, inputs, classes, **options)
    assert list(module.state_dict()) == [n for n, _ in module.named_parameters()]


@pytest.mark.parametrize(("name", "inputs", "classes", "options"), TASKS)
def test_starts_by_guessing(name, inputs, classes, options):
    module = build(name, inputs, classes, **options).eval()
    x = [0.3 * tensor for tensor in samples(inputs, 200)]
    logits = module(*x)
    labels = torch.arange(200) % classes
    assert logits.shape == (200, classes)
    assert F.cross_entropy(logits, labels).item() == pytest.approx(
        log(classes), abs=0.1
    )


@pytest.mark.parametrize(("name", "inputs", "classes", "options"), TASKS)
def test_gradient_reaches_every_parameter(name, inputs, classes, options):
    module = build(name, inputs, classes, **options)
    loss = F.cross_entropy(module(*samples(inputs, 32)), torch.arange(32) % classes)
    loss.backward()
    for parameter_name, parameter in module.named_parameters():
        assert parameter.grad is not None
        if parameter_name == "fuse_att.att_fc2.bias":
            # It adds the same to the scores of all tokens: the softmax cancels it.
            assert parameter.grad.abs().max() < 1e-6
        else:
            assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize(("name", "inputs", "classes", "options"), TASKS)
def test_samples_do_not_see_each_other(name, inputs, classes, options):
    module = build(name, inputs, classes, **options).eval()
    x = samples(inputs, 5)
    alone = torch.cat([module(*(t[i : i + 1] for t in x)) for i in range(5)])
    torch.testing.assert_close(module(*x), alone)


@pytest.mark.parametrize(("name", "inputs", "classes", "options"), TASKS)
def test_parameters_can_be_views_of_one_vector(name, inputs, classes, options):
    module = build(name, inputs, classes, **options).eval()
    x, labels = samples(inputs, 4), torch.arange(4) % classes
    F.cross_entropy(module(*x), labels).backward()
    expected = [module(*x).detach(), *(p.grad.clone() for p in module.parameters())]
    flat = nn.utils.parameters_to_vector(module.parameters()).detach().clone()
    start = 0
    for p in module.parameters():
        p.data.fill_(torch.nan)
        p.data = flat[start : start + p.numel()].view(p.shape)
        p.grad, start = None, start + p.numel()
    F.cross_entropy(module(*x), labels).backward()
    found = [module(*x).detach(), *(p.grad for p in module.parameters())]
    torch.testing.assert_close(found, expected)
    flat.zero_()
    assert (module(*x) == 0).all()


def plain_cnn(p, x):
    x = F.max_pool2d(F.relu(F.conv2d(x, p["conv1.weight"], p["conv1.bias"], 1, 1)), 2)
    x = F.max_pool2d(F.relu(F.conv2d(x, p["conv2.weight"], p["conv2.bias"], 1, 1)), 2)
    x = F.relu(F.linear(x.reshape(len(x), -1), p["fc1.weight"], p["fc1.bias"]))
    return F.linear(x, p["fc2.weight"], p["fc2.bias"])


def test_cnn_computes_what_is_published():
    module = build("cnn", CIFAR10, 10)
    (x,) = samples(CIFAR10, 6)
    labels = torch.arange(6)
    parameters = dict(module.named_parameters())
    results = []
    for forward in (module, lambda x: plain_cnn(parameters, x)):
        loss = F.cross_entropy(forward(x), labels)
        results.append([loss, *torch.autograd.grad(loss, list(parameters.values()))])
    torch.testing.assert_close(results[0], results[1])


def test_cnn_sees_the_same_image_in_any_layout():
    (x,) = samples(CIFAR10, 4)
    first = build("cnn", CIFAR10, 10)
    last = build("cnn", (Input("image", (32, 32, 3)),), 10)
    torch.testing.assert_close(first(x), last(x.permute(0, 2, 3, 1).contiguous()))


@pytest.mark.parametrize("name", ["mlp", "logistic"])
def test_flat_models_take_padding_for_zero(name):
    inputs = (Input("acc", (10, 3), ragged=True), Input("age", (1,)))
    module = build(name, inputs, 3)
    acc, age = samples(inputs, 4)
    lengths = torch.tensor([10, 7, 1, 0])
    inside = valid_mask(lengths, 10)[..., None]
    found = module(acc, age, lengths={"acc": lengths})
    torch.testing.assert_close(found, module(acc * inside, age))


def test_mlp_computes_what_it_says():
    module = build("mlp", KU_HAR, 8, hidden=(7, 5))
    x = samples(KU_HAR, 4)
    p = dict(module.named_parameters())
    rows = torch.cat([t.reshape(4, -1) for t in x], 1)
    for layer in ("body.0", "body.2"):
        rows = F.relu(rows @ p[f"{layer}.weight"].T + p[f"{layer}.bias"])
    expected = rows @ p["head.weight"].T + p["head.bias"]
    torch.testing.assert_close(module(*x), expected)


def test_logistic_is_linear():
    module = build("logistic", KU_HAR, 8)
    x, y = samples(KU_HAR, 4), samples(KU_HAR, 4, seed=1)
    middle = module(*((a + b) / 2 for a, b in zip(x, y, strict=True)))
    torch.testing.assert_close(middle, (module(*x) + module(*y)) / 2)


ONE = (Input("x", (32, 32, 3)),)
REFUSED = [
    ("cnn", KU_HAR, 8, {}, r"2 inputs, 'acc' \(64, 3\), 'gyro' \(64, 3\)"),
    ("cnn", (Input("x", (12,)),), 8, {}, r"shape \(12,\); needed is an image"),
    ("cnn", (Input("x", (8, 8), True),), 8, {}, "ragged shape"),
    ("cnn", (Input("x", (3, 32, 3)),), 8, {}, "32 by 3 pixels; needed are 4 by 4"),
    ("cnn", ONE, 10, {"channels": (16, 0)}, "channels must be 1 or more, got 0"),
    ("cnn", ONE, 10, {"hidden": -1}, "hidden must be 1 or more, got -1"),
    ("har", (Input("x", (7, 3)),), 8, {}, r"shape \(7, 3\); needed .* T >= 8"),
    ("har", ONE, 8, {}, r"'x' has the shape \(32, 32, 3\); needed"),
    ("har", (Input("a.b", (64, 3)),), 8, {}, "called 'a.b'"),
    ("har", KU_HAR, 8, {"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ("har", KU_HAR, 8, {"heads": 0}, "heads must be 1 or more, got 0"),
    ("image-text", KU_HAR, 8, {}, r"'acc' \(64, 3\), .*; needed are features"),
    ("image-text", CRISIS_MMD[:1], 8, {}, "needed are features"),
    ("image-text", CRISIS_MMD, 8, {"dropout": -0.1}, r"dropout must be in \[0, 1\)"),
    ("image-text", CRISIS_MMD, 8, {"classifier": 0}, "classifier must be 1 or more"),
    ("image-text", (Input("x", ()), CRISIS_MMD[1]), 8, {}, "needed are features"),
    ("audio-video", CREMA_D[:1], 8, {}, "needed are two sequences"),
    ("audio-video", CREMA_D[::-1], 8, {"filters": 0}, "filters must be 1 or more"),
    ("audio-video", (Input("x", (7, 3)), CREMA_D[1]), 8, {}, "T >= 8 steps"),
    ("audio-video", (CREMA_D[0], Input("x", (12,))), 8, {}, "two sequences"),
    ("audio-video", CREMA_D, 4, {"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
    ("resnet18", KU_HAR, 8, {}, "2 inputs, .*; needed is exactly one, an image"),
    ("resnet18", CIFAR10, 8, {"groups": 0}, "groups must be 1 or more"),
    ("resnet18", CIFAR10, 8, {"groups": 48}, "groups 48 does not divide width 64"),
    ("resnet18", (Input("x", (12,)),), 8, {}, r"shape \(12,\); needed is an image"),
    ("transformer", ONE, 8, {}, r"'x' has the shape \(32, 32, 3\); needed are codes"),
    ("transformer", KU_HAR, 8, {"vocabulary": {"acc": 9}}, r"\(64, 3\); needed are"),
    ("transformer", (Input("x", ()),), 8, {}, r"shape \(\); needed are codes"),
    ("transformer", KU_HAR, 8, {"vocabulary": {"ac": 9}}, "did you mean 'acc'"),
    ("transformer", KU_HAR, 8, {"vocabulary": {"acc": 0}}, "vocabulary.acc must be 1"),
    ("transformer", KU_HAR, 8, {"width": 10, "heads": 4}, "no multiple of heads 4"),
    ("transformer", KU_HAR, 8, {"layers": 0}, "layers must be 1 or more"),
    ("transformer", KU_HAR, 8, {"dropout": 1.0}, r"dropout must be in"),
    ("transformer", (Input("", (64, 3)),), 8, {}, "an input is called ''"),
    ("mlp", KU_HAR, 8, {"hidden": ()}, "hidden is empty; .* 'logistic'"),
    ("mlp", KU_HAR, 8, {"hidden": (3, 0)}, "hidden must be 1 or more, got 0"),
    *[
        (name, inputs, classes, {"model": "any"} if name in PREFIXES else {}, message)
        for name in models.names()
        if name != "lora"  # its base does
        for inputs, classes, message in [
            ((), 8, "no inputs; it needs one or more"),
            ((Input("x", (8, 3)), Input("x", (9, 3))), 8, "share a name"),
            ((Input("x", (8, 0)),), 8, "empty axis"),
            ((Input("x", (8, 8)),), 0, "0 outputs; it needs one or more"),
        ]
    ],
]


def test_one_output_is_enough():
    """A task such as regression needs no more."""
    for name in ("mlp", "logistic", "har"):
        module = build(name, KU_HAR, 1)
        assert module(*samples(KU_HAR, 4)).shape == (4, 1)


@pytest.mark.parametrize(("name", "inputs", "classes", "options", "message"), REFUSED)
def test_refuses(name, inputs, classes, options, message):
    with pytest.raises(ConfigError, match=f"^model '{name}': .*{message}"):
        build(name, inputs, classes, **options)
