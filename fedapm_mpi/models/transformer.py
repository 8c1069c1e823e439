"""A small transformer over the tokens of all inputs: text, sequences, vectors."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models.base import (
    InputSpec,
    check_inputs,
    check_name,
    check_rate,
    check_sizes,
    describe,
    models,
)
from fedapm_mpi.models.layers.embedding import CodeEmbedding
from fedapm_mpi.models.layers.padding import valid_mask, zero_padding
from fedapm_mpi.registry import did_you_mean

INIT_STD = 0.02
"""Standard deviation of what positions, the token of the class and the logits' weights
begin with."""


class Transformer(nn.Module):
    """Encoder layers over the tokens of all inputs, read at a token of their own.

    Parameters
    ----------
    inputs
        The inputs.
    num_classes
        Number of logits.
    vocabulary, width, heads, layers, inner, dropout
        As of `transformer`.
    """

    def __init__(
        self,
        inputs: tuple[InputSpec, ...],
        num_classes: int,
        *,
        vocabulary: Mapping[str, int],
        width: int,
        heads: int,
        layers: int,
        inner: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.names = tuple(spec.name for spec in inputs)
        self.vectors = {
            spec.name for spec in inputs
            if len(spec.shape) == 1 and spec.name not in vocabulary
        }  # fmt: skip
        for spec in inputs:
            if spec.name in vocabulary:
                number = vocabulary[spec.name]
                codes = CodeEmbedding(spec.name, number, width, INIT_STD)
                self.add_module(f"{spec.name}_embed", codes)
            else:
                dense = nn.Linear(spec.shape[-1], width)
                self.add_module(f"{spec.name}_embed", dense)
        for spec in inputs:
            steps = 1 if spec.name in self.vectors else spec.shape[0]
            position = nn.Parameter(torch.randn(steps, width) * INIT_STD)
            self.register_parameter(f"{spec.name}_position", position)
        self.token = nn.Parameter(torch.randn(1, 1, width) * INIT_STD)
        layer = nn.TransformerEncoderLayer(
            width, heads, inner, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, layers, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.classifier = nn.Linear(width, num_classes)
        nn.init.normal_(self.classifier.weight, std=INIT_STD)
        nn.init.zeros_(self.classifier.bias)

    def input_encoders(self) -> tuple[str, ...]:
        """Return the names of the parts that read the inputs."""
        parts = ("embed", "position")
        return tuple(f"{name}_{part}" for part in parts for name in self.names)

    def forward(
        self, *inputs: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return logits ``(n, num_classes)``.

        Parameters
        ----------
        *inputs
            One tensor per input, in the order of the data set.
        lengths
            True lengths ``(n,)`` of the samples of ragged inputs, by name; what
            follows a sample does not change its logits, and a length of 0 is an input
            that is missing.
        """
        n = len(inputs[0])
        device = inputs[0].device
        tokens = [self.token.expand(n, 1, -1)]
        inside = [torch.ones(n, 1, dtype=torch.bool, device=device)]
        for name, x in zip(self.names, inputs, strict=True):
            position: Tensor = getattr(self, f"{name}_position")
            x = x[:, None] if name in self.vectors else x
            length = (lengths or {}).get(name)
            if length is not None and name in self.vectors:
                length = length.clamp(max=1)  # there or missing
            span = len(position) if length is None else max(1, int(length.max()))
            there = torch.ones(n, span, dtype=torch.bool, device=device)
            x = x[:, :span]
            if length is not None:
                there = valid_mask(length, span)
                x = zero_padding(x, there)
            embedded = getattr(self, f"{name}_embed")(x)
            tokens.append(embedded + position[:span])
            inside.append(there)
        mask = None if not lengths else ~torch.cat(inside, dim=1)
        encoded = self.encoder(torch.cat(tokens, dim=1), src_key_padding_mask=mask)
        logits: Tensor = self.classifier(encoded[:, 0])
        return logits


def _numbers_of_codes(
    inputs: tuple[InputSpec, ...], given: Mapping[str, int]
) -> dict[str, int]:
    """Return the number of codes of each input that holds codes."""
    known = {spec.name: spec.codes for spec in inputs if spec.codes}
    for name in known.keys() & given.keys():
        msg = (
            f"model 'transformer': vocabulary.{name} is not needed: the data set says "
            f"that {name!r} holds {known[name]} codes"
        )
        raise ConfigError(msg)
    return known | dict(given)


def _check_inputs(inputs: tuple[InputSpec, ...], coded: Mapping[str, int]) -> None:
    """Raise `ConfigError` for an input that does not suit, or a vocabulary of none."""
    names = [spec.name for spec in inputs]
    for name in coded:
        if name not in names:
            msg = (
                f"model 'transformer': vocabulary.{name} names no input"
                f"{did_you_mean(name, names)} (inputs: {describe(inputs)})"
            )
            raise ConfigError(msg)
    for spec in inputs:
        if len(spec.shape) not in ((1,) if spec.name in coded else (1, 2)):
            msg = (
                f"model 'transformer': input {spec.name!r} has the shape {spec.shape}; "
                "needed are codes (T,) with their vocabulary, a sequence (T, C) or a "
                "vector (D,)"
            )
            raise ConfigError(msg)
        check_name("transformer", spec)


@models.register("transformer")
def transformer(
    inputs: tuple[InputSpec, ...],
    num_classes: int,
    *,
    vocabulary: dict[str, int] | None = None,
    width: int = 64,
    heads: int = 4,
    layers: int = 2,
    inner: int = 256,
    dropout: float = 0.1,
) -> nn.Module:
    """Build a small transformer; several inputs give one row of tokens.

    Parameters: ``NAME_embed`` of every input, ``NAME_position`` of every input,
    ``token``, ``encoder`` and ``classifier``. A token of its own, which the logits are
    read from, comes first; layers normalise first and use GELU.

    Parameters
    ----------
    inputs
        Each codes ``(T,)``, such as those of words, a sequence ``(T, C)``, or a vector
        ``(D,)``; all may be ragged, a vector to be missing.
    num_classes
        Number of outputs: the classes, or another number that the task needs.
    vocabulary
        Number of codes of each input that holds codes, by name; an input that is not
        named is taken for numbers, unless the data set says that it holds codes.
    width
        Size of a token; a multiple of `heads`.
    heads
        Heads of the attention.
    layers
        Encoder layers.
    inner
        Width of a layer's hidden units.
    dropout
        Rate of dropout in the layers, in [0, 1).

    Raises
    ------
    ConfigError
        If the inputs or the options do not suit.

    References
    ----------
    Vaswani et al. (2017), Attention is all you need, arXiv:1706.03762.
    """
    check_inputs("transformer", inputs, num_classes, codes=True)
    coded = _numbers_of_codes(inputs, vocabulary or {})
    sizes = {"width": width, "heads": heads, "layers": layers, "inner": inner}
    check_sizes("transformer", **sizes)
    check_sizes("transformer", **{f"vocabulary.{k}": v for k, v in coded.items()})
    check_rate("transformer", dropout=dropout)
    if width % heads:
        msg = f"model 'transformer': width {width} is no multiple of heads {heads}"
        raise ConfigError(msg)
    _check_inputs(inputs, coded)
    return Transformer(inputs, num_classes, vocabulary=coded, dropout=dropout, **sizes)
