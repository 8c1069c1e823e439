"""Parts made from a configuration: by name, with their options, checked to fit."""

import traceback
from typing import Any

import torch
from torch import nn

from .config import Config
from .errors import ConfigError, FedAPMError
from .manifest import Manifest
from .models import models
from .problem import scores
from .registry import Registry
from .samples import Samples
from .seeding import torch_seed
from .split import SplitModel


def build_part(registry: Registry[Any], part: dict[str, Any], *args: Any) -> Any:
    """Return a part made from its name and options.

    Raises
    ------
    ConfigError
        If it cannot be made, say because a user's own factory fails.
    """
    options = {key: value for key, value in part.items() if key != "name"}
    factory = registry.get(part["name"])
    try:
        return factory(*args, **options)
    except FedAPMError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        msg = (
            f"{registry.kind} {part['name']!r} could not be built: "
            f"{type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"
        )
        raise ConfigError(msg) from error


def build_model(config: Config, manifest: Manifest, sharing: str) -> SplitModel:
    """Return the initial model of every client, split as the algorithm needs it.

    The initialisation comes from the run's seed alone.
    """
    torch.manual_seed(torch_seed(config.seed, "initial model"))
    module: Any = build_part(
        models, config.model, manifest.inputs, len(manifest.classes)
    )
    if not isinstance(module, nn.Module):
        msg = (
            f"model {config.model['name']!r} returned {type(module).__name__}; the "
            "factory must return a torch.nn.Module"
        )
        raise ConfigError(msg)
    module = module.to(getattr(torch, config.dtype))
    if sharing == "all":
        return SplitModel(module, set())
    if sharing == "none":
        return SplitModel(module, {name for name, _ in module.named_parameters()})
    assert config.split is not None
    if config.split.rule is not None:
        rules: Registry[Any] = Registry("split rule", __package__)
        return SplitModel.from_rule(module, rules.get(config.split.rule))
    return SplitModel.from_patterns(
        module, personal=config.split.personal, shared=config.split.shared
    )


def check_output(module: nn.Module, config: Config, manifest: Manifest) -> None:
    """Raise `ConfigError` unless the model turns inputs of this data into scores."""
    dtype, two, classes = getattr(torch, config.dtype), 2, len(manifest.classes)
    blank = Samples(
        tuple(torch.zeros(two, *spec.shape, dtype=dtype) for spec in manifest.inputs),
        {
            spec.name: torch.full((two,), spec.shape[0])
            for spec in manifest.inputs
            if spec.ragged
        },
        torch.zeros(two, dtype=torch.int64),
    )
    shapes = ", ".join(f"{spec.name} {spec.shape}" for spec in manifest.inputs)
    module.eval()
    try:
        with torch.no_grad():
            found = tuple(scores(module, blank).shape)
    except Exception as error:
        msg = (
            f"model {config.model['name']!r} cannot take the inputs of "
            f"{manifest.directory} ({shapes}): {type(error).__name__}: {error}"
        )
        raise ConfigError(msg) from error
    if found != (two, classes):
        msg = (
            f"model {config.model['name']!r} gives scores of shape {found} for {two} "
            f"samples; it must be ({two}, {classes}), one score for each class"
        )
        raise ConfigError(msg)
