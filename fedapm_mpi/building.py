"""Parts made from a configuration: by name, with their options, checked to fit."""

import traceback
from typing import Any

import numpy as np
import torch
from torch import nn

from .algorithms import Algorithm, ClientState
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


def check_evaluation(config: Config, manifest: Manifest, algorithm: Algorithm) -> None:
    """Raise `ConfigError` unless data and algorithm allow the evaluation asked for."""
    split = config.evaluation.split
    if not manifest.counts.get(split, np.zeros(1)).any():
        msg = (
            f"evaluation.split is {split!r}, but {manifest.directory} has no {split} "
            f"samples; prepare it again with {split}=0.2, say"
        )
        raise ConfigError(msg)
    if config.evaluation.shared == "client" and hasattr(algorithm, "personalise"):
        msg = (
            f"evaluation.shared is 'client', but {config.algorithm['name']} evaluates "
            "the models that it makes for its clients; remove the key"
        )
        raise ConfigError(msg)


def check_diagnostics(config: Config, algorithm: Algorithm, state: ClientState) -> None:
    """Raise `ConfigError` for what the algorithm, with such a client state, lacks."""
    asked, has_dual = config.diagnostics, "dual" in state
    missing = [
        (key, what)
        for key, what, wanted, known in (
            ("tolerance", "duals and a penalty", config.tolerance is not None,
             has_dual and hasattr(algorithm, "rho")),
            ("diagnostics.dual_sum", "duals", asked.dual_sum, has_dual),
            ("diagnostics.lagrangian", "an augmented Lagrangian", asked.lagrangian,
             hasattr(algorithm, "lagrangian")),
        )
        if wanted and not known
    ]  # fmt: skip
    if missing:
        name = config.algorithm["name"]
        msg = "; ".join(
            f"{key} needs {what}, which {name} does not have: remove the key"
            for key, what in missing
        )
        raise ConfigError(msg)
