"""The runs whose portable digests are published: models, optimizers, methods."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.algorithm_options import SHARING_ALL, SHARING_PART
from tests.support.data import toy_data
from tests.support.experiments import SMALL_HAR
from tests.support.processes.cli_runs import FEDAPM, FEDSIM, experiment

STEPS = {
    "adadelta": 0.5, "adafactor": 0.02, "adagrad": 0.05, "adam": 0.01, "adamax": 0.02,
    "adamw": 0.01, "asgd": 0.1, "nadam": 0.01, "radam": 0.02, "rmsprop": 0.01,
    "rprop": 0.01, "sgd": 0.1,
}  # fmt: skip
"""A step size for every built-in optimizer."""

IMAGE = {"image": (3, 32, 32)}
MOTION = {"acc": (64, 3), "gyro": (64, 3)}
PAIR = {"image": (1, 1280), "text": (9, 512)}
FILM = {"audio": (48, 80), "video": (10, 1280)}
SHAPES = {
    "images": IMAGE,
    "small-images": {"image": (3, 12, 12)},
    "long-motion": MOTION,
    "image-text": PAIR,
    "small-image-text": {"image": (5,), "text": (3, 2)},
    "audio-video": FILM,
    "small-audio-video": {"audio": (16, 1), "video": (3, 6)},
}
"""Shapes of inputs by data set; those that are not small are the papers'."""

SHALLOW: dict[str, Any] = {
    "split": {"last": 1},
    "algorithm": FEDAPM | {"lr_personal": 0.02, "lr_shared": 0.02},
    "participation": "full",
    "rounds": 2,
}


PLAIN: dict[str, dict[str, Any]] = {
    "fedavg": {"name": "fedavg", **FEDSIM},
    "local": {"name": "local", **FEDSIM},
    "fedsim": {"name": "fedsim", **FEDSIM},
    "fedalt": {
        "name": "fedalt", "lr_personal": 0.1, "lr_shared": 0.1, "batch_size": 8,
        "personal_work": {"epochs": 1}, "shared_work": {"epochs": 1},
    },
}  # fmt: skip
"""The methods that `algorithm_options` has not, or only in a variant."""


def write_data(root: Path) -> dict[str, Path]:
    """Write every data set; return the folders by name."""
    found = toy_data.write_all(root)
    for name, shapes in SHAPES.items():
        toy_data.write_inputs(root / name, shapes)
        found[name] = root / name
    return found


def cases(data: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Return the configurations of all runs, by name, with ``kernels: portable``."""
    every = _models(data) | _full_size(data) | _optimizers(data) | _methods(data)
    every |= _tasks(data)
    return {name: config | {"kernels": "portable"} for name, config in every.items()}


def _models(data: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    small = {"filters": 3, "hidden": 8, "heads": 2}
    encoder = {"name": "transformer", "width": 8, "heads": 2, "layers": 1, "inner": 16}
    images = data["small-images"]
    lora = {"name": "lora", "base": {"name": "mlp", "hidden": [8, 6]}}
    made: dict[str, tuple[Path, Any]] = {
        "mlp": (data["features"], {"name": "mlp", "hidden": [8, 6]}),
        "logistic": (data["odd"], "logistic"),
        "cnn": (images, {"name": "cnn", "channels": [4, 8], "hidden": 16}),
        "resnet18": (images, {"name": "resnet18", "width": 8, "groups": 2}),
        "resnet18-batch": (images, {"name": "resnet18", "width": 8, "groups": None}),
        "har": (data["motion"], SMALL_HAR),
        "har-ragged": (data["ragged"], SMALL_HAR),
        "image-text": (
            data["small-image-text"],
            {"name": "image-text", "hidden": 8, "heads": 2},
        ),
        "audio-video": (data["small-audio-video"], {"name": "audio-video", **small}),
        "transformer": (data["motion"], encoder),
        "lora": (data["features"], lora),
        "tabular": (data["rows"], {"name": "tabular", "embedding": 3, "hidden": [8]}),
    }
    found = {
        f"model-{name}": experiment(where, **SHALLOW | {"model": model})
        for name, (where, model) in made.items()
    }
    found["model-logistic"]["split"] = {"personal": ["linear.bias"]}
    found["model-lora"]["split"] = {"shared": ["*.lora_*"]}
    found["model-mlp-float64"] = found["model-mlp"] | {"dtype": "float64"}
    return found


def _full_size(data: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Return a round of each model as its users have it."""
    made: dict[str, tuple[str, Any]] = {
        "mlp": ("long-motion", {"name": "mlp", "hidden": [128, 64]}),
        "cnn": ("images", "cnn"),
        "resnet18": ("images", {"name": "resnet18", "width": 16, "groups": 4}),
        "har": ("long-motion", "har"),
        "image-text": ("image-text", "image-text"),
        "audio-video": ("audio-video", "audio-video"),
        "transformer": ("long-motion", "transformer"),
    }
    once = {"participation": {"name": "random", "count": 1}, "rounds": 1}
    work = {"personal_work": {"steps": 1}, "shared_work": {"steps": 2}}
    return {
        f"full-{name}": experiment(
            data[where],
            **SHALLOW
            | once
            | {"model": model, "algorithm": SHALLOW["algorithm"] | work}
            | {"evaluation": {"every": 1}},
        )
        for name, (where, model) in made.items()
    }


def _optimizers(data: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    found = {}
    for name, lr in STEPS.items():
        rates = {"lr_personal": lr, "lr_shared": lr}
        part = {"name": name, "state": "keep"} | (
            {"momentum": 0.9} if name == "sgd" else {}
        )
        found[f"optimizer-{name}"] = experiment(
            data["features"], optimizer=part, algorithm=FEDAPM | rates
        )
    adam = found["optimizer-adam"]
    found["optimizer-adam-float64"] = adam | {"dtype": "float64"}
    clip = [{"name": "clip", "max_norm": 0.1}]
    found["optimizer-adam-clip"] = adam | {"update_transforms": clip}
    cnn = {"name": "cnn", "channels": [4, 8], "hidden": 16}
    found["optimizer-adam-cnn"] = experiment(
        data["small-images"],
        **SHALLOW | {"model": cnn, "optimizer": "adam", "schedule": "cosine"},
    )
    return found


def _tasks(data: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Return the losses that call other functions of torch than the cross-entropy."""
    numbers = {"name": "regression", "loss_function": "huber"}
    weighted = {"name": "classification", "class_weights": "balanced", "focal": 2.0}
    return {
        "task-regression": experiment(data["numbers"], task=numbers),
        "task-multilabel": experiment(data["tags"], task="multilabel"),
        "task-partial": experiment(data["partial"], task="multilabel"),
        "task-ordinal": experiment(data["features"], task="ordinal"),
        "task-next-token": experiment(
            data["texts"],
            task="next-token",
            model={"name": "language-model", "embedding": 3, "hidden": 4},
        ),
        "task-segmentation": experiment(
            data["masks"], task="segmentation", model={"name": "unet", "width": 4}
        ),
        "task-focal": experiment(data["features"], task=weighted),
    }


def _methods(data: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    features = data["features"]
    every = {
        name: experiment(features, split=None, algorithm=options)
        for name, options in SHARING_ALL.items()
    } | {
        name: experiment(features, algorithm=options)
        for name, options in SHARING_PART.items()
    }
    every |= {
        name: experiment(
            features,
            algorithm=options,
            **({"split": None} if name in ("fedavg", "local") else {}),
        )
        for name, options in PLAIN.items()
    }
    every["multiplier"] = experiment(features, diagnostics={"multiplier": True})
    return {f"method-{name}": config for name, config in every.items()}
