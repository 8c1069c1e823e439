"""Low-rank adapters on the dense layers of any other model."""

import inspect
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models.base import InputSpec, check_sizes, models
from fedapm_mpi.registry import did_you_mean


class AdaptedLinear(nn.Linear):
    """A dense layer with a low-rank adapter: W x + b + (scale / rank) B A x.

    A is drawn like W and B is zero, so that it starts as the layer that it replaces. It
    keeps that layer's parameters under their names.

    Parameters
    ----------
    layer
        The dense layer.
    rank
        Rows of A, columns of B.
    scale
        Strength of the adapter.
    """

    def __init__(self, layer: nn.Linear, rank: int, scale: float) -> None:
        # Without memory or draws of its own: weight and bias are the layer's.
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        bound = 1 / sqrt(layer.in_features)
        a = torch.empty(rank, layer.in_features).uniform_(-bound, bound)
        self.lora_a = nn.Parameter(a)
        self.lora_b = nn.Parameter(torch.zeros(layer.out_features, rank))
        self.scale = scale / rank

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, (..., out_features)."""
        adapter = F.linear(F.linear(x, self.lora_a), self.lora_b)
        return super().forward(x) + self.scale * adapter


@models.register("lora")
def lora(
    inputs: tuple[InputSpec, ...],
    num_classes: int,
    *,
    base: dict[str, Any],
    rank: int = 4,
    scale: float = 1.0,
    layers: list[str] | None = None,
    frozen: list[str] | None = None,
) -> nn.Module:
    """Build another model with low-rank adapters on its dense layers.

    The base's parameters keep their names; each adapted layer has ``lora_a`` and
    ``lora_b`` as well. So ``split: {shared: ["*.lora_*"]}`` shares adapters alone,
    and ``personal: ["*.lora_*"]`` keeps them. Frozen parameters are neither: they stay
    at their initial values, pretrained weights (``initial_model``) for example, and are
    never sent.

    Parameters
    ----------
    inputs, num_classes
        As of the base.
    base
        The other model, by name and options.
    rank
        Rank of the adapters.
    scale
        Strength of the adapters; their product is divided by the rank.
    layers
        Glob patterns of the dense layers to adapt; all unless given.
    frozen
        Glob patterns of the base's parameters that are not trained; none unless given.

    Raises
    ------
    ConfigError
        If the base or the options do not suit.

    References
    ----------
    Hu et al. (2022), LoRA: low-rank adaptation of large language models, ICLR.
    """
    check_sizes("lora", rank=rank)
    module = _base(base, inputs, num_classes)
    _freeze(module, frozen or ())
    chosen = _adapted_layers(module, layers, base["name"])
    adapted = {m: AdaptedLinear(m, rank, scale) for m in chosen.values()}
    _replace(module, adapted)
    _call_layers(module)
    return module


def _adapted_layers(
    module: nn.Module, patterns: Collection[str] | None, base: str
) -> dict[str, nn.Linear]:
    """Return the dense layers to adapt by name, in the order of the model.

    The order matters: their adapters draw from one generator.
    """
    dense = {n: m for n, m in module.named_modules() if type(m) is nn.Linear}
    chosen = set(dense)
    if patterns is not None:
        chosen = {n for pattern in patterns for n in _matches(pattern, "layers", dense)}
    if not chosen or "" in chosen:
        msg = (
            f"model 'lora': {base!r} has no dense layer within, so there is nothing to "
            "adapt"
        )
        raise ConfigError(msg)
    return {name: layer for name, layer in dense.items() if name in chosen}


def _replace(module: nn.Module, others: Mapping[nn.Linear, nn.Module]) -> None:
    """Replace layers wherever they are; one layer may be in several places."""
    for parent in list(module.modules()):
        for own, child in list(parent._modules.items()):
            if isinstance(child, nn.Linear) and child in others:
                setattr(parent, own, others[child])


def _call_layers(module: nn.Module) -> None:
    """Let transformers call their layers also in evaluation."""
    for part in module.modules():
        if isinstance(part, nn.TransformerEncoderLayer):
            # In evaluation, it would pass its layers' weights to one kernel, which
            # ignores the adapters; with this set, it calls its layers.
            part.activation_relu_or_gelu = 0


def _freeze(module: nn.Module, patterns: Collection[str]) -> None:
    """Exclude the parameters that match a pattern from training."""
    named = dict(module.named_parameters())
    for pattern in patterns:
        for name in _matches(pattern, "frozen", named):
            named[name].requires_grad_(False)


def _matches(pattern: str, key: str, names: Collection[str]) -> list[str]:
    """Return the names that match a pattern of an option.

    Raises
    ------
    ConfigError
        If there is none.
    """
    matched = [name for name in names if fnmatchcase(name, pattern)]
    if not matched:
        msg = (
            f"model 'lora': {key} {pattern!r} matches nothing"
            f"{did_you_mean(pattern, list(names))} (there are: {', '.join(names)})"
        )
        raise ConfigError(msg)
    return matched


def _base(
    part: Mapping[str, Any], inputs: tuple[InputSpec, ...], num_classes: int
) -> nn.Module:
    options = dict(part)
    name = options.pop("name", None)
    if not isinstance(name, str) or name == "lora":
        msg = (
            "model 'lora': base needs the name of another model "
            f"(known: {', '.join(n for n in models.names() if n != 'lora')})"
        )
        raise ConfigError(msg)
    factory = models.get(name)
    parameters = inspect.signature(factory).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for key in options:
        if key not in known and not takes_any:
            msg = (
                f"model 'lora': base {name!r} has no option {key!r}"
                f"{did_you_mean(key, known)} (known: {', '.join(known)})"
            )
            raise ConfigError(msg)
    return factory(inputs, num_classes, **options)
