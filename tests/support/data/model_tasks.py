"""Inputs, models and samples for the tests of models."""

from dataclasses import dataclass

import pytest
import torch

from fedapm_mpi.models import models


@dataclass(frozen=True)
class Input:
    name: str
    shape: tuple[int, ...]
    ragged: bool = False
    codes: int = 0
    complex: bool = False


CIFAR10 = (Input("image", (3, 32, 32)),)
KU_HAR = (Input("acc", (64, 3)), Input("gyro", (64, 3)))
CRISIS_MMD = (Input("image", (1, 1280)), Input("text", (9, 512)))
CREMA_D = (Input("audio", (48, 80)), Input("video", (10, 1280)))

# name, inputs, classes and options of a model that every law below must hold for
TASKS = [
    pytest.param("cnn", CIFAR10, 10, {}, id="cnn"),
    pytest.param("cnn", (Input("x", (28, 28)),), 26, {}, id="cnn-grey"),
    pytest.param("cnn", (Input("x", (9, 5, 2)),), 2, {"hidden": 7}, id="cnn-odd"),
    pytest.param("har", KU_HAR, 8, {}, id="har"),
    pytest.param("har", (Input("acc", (128, 3)),), 6, {}, id="har-one"),
    pytest.param(
        "har",
        (Input("acc", (128, 3)), Input("gyro", (77, 3)), Input("emg", (17, 1))),
        18,
        {"filters": 4, "hidden": 10, "heads": 2},
        id="har-three",
    ),
    pytest.param("image-text", CRISIS_MMD, 8, {}, id="image-text"),
    pytest.param(
        "image-text",
        (Input("x", (5,)), Input("y", (3, 2))),
        2,
        {"hidden": 7, "heads": 2},
        id="image-text-small",
    ),
    pytest.param("audio-video", CREMA_D, 4, {}, id="audio-video"),
    pytest.param(
        "audio-video",
        (Input("x", (16, 1)), Input("y", (3, 6))),
        5,
        {"filters": 3, "hidden": 7, "heads": 2},
        id="audio-video-small",
    ),
    pytest.param("transformer", KU_HAR, 8, {"dropout": 0.0}, id="transformer"),
    pytest.param(
        "transformer",
        (Input("x", (5,)), Input("y", (7, 2))),
        3,
        {"width": 12, "heads": 3, "layers": 1, "inner": 8, "dropout": 0.0},
        id="transformer-vector",
    ),
    pytest.param("mlp", KU_HAR, 8, {}, id="mlp"),
    pytest.param("mlp", CIFAR10, 10, {"hidden": (20, 10, 5)}, id="mlp-deep"),
    pytest.param("logistic", KU_HAR, 8, {}, id="logistic"),
    pytest.param(
        "resnet18", CIFAR10, 10, {"width": 8, "groups": 4}, id="resnet18-group"
    ),
]


def build(name, inputs, num_classes, **options):
    torch.manual_seed(0)
    return models.get(name)(inputs, num_classes, **options)


def samples(inputs, n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, *i.shape, generator=generator) for i in inputs]
