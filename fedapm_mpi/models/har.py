"""Network for windows of motion sensors, FedAPM's model for KU-HAR."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models.base import (
    InputSpec,
    check_inputs,
    check_name,
    models,
)
from fedapm_mpi.models.layers.attention import Fused, FusionOptions
from fedapm_mpi.models.layers.conv import STEPS_PER_TOKEN, ConvEncoder
from fedapm_mpi.models.layers.padding import valid_mask


class HAR(Fused):
    """One encoder and one GRU per input, fused by attention.

    Parameters
    ----------
    channels
        Channels of each input, by its name.
    num_classes
        Number of logits.
    options
        Sizes, and the rate of dropout.
    """

    def __init__(
        self,
        channels: Mapping[str, int],
        num_classes: int,
        options: FusionOptions,
    ) -> None:
        super().__init__()
        self.names = tuple(channels)
        for name, count in channels.items():
            self.add_module(
                f"{name}_conv", ConvEncoder(count, options.filters, options.dropout)
            )
        for name in channels:
            rnn = nn.GRU(4 * options.filters, options.hidden, batch_first=True)
            self.add_module(f"{name}_rnn", rnn)
        self.add_head(num_classes, options)

    def forward(
        self, *inputs: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return logits ``(n, num_classes)`` of sequences, each ``(n, T, C)``.

        Parameters
        ----------
        *inputs
            One tensor per input, in the order of the data set.
        lengths
            True lengths ``(n,)`` of the samples of ragged inputs, by name. What
            follows a sample does not change its logits. A sample shorter than eight
            steps has no token of that input.
        """
        lengths = lengths or {}
        tokens, inside = [], []
        for name, x in zip(self.names, inputs, strict=True):
            length = lengths.get(name)
            encoded = getattr(self, f"{name}_conv")(x, length)
            # A GRU looks back only: padding at the end cannot change earlier tokens.
            tokens.append(getattr(self, f"{name}_rnn")(encoded)[0])
            span = encoded.shape[1]
            if length is None:
                inside.append(torch.ones(1, 1, dtype=torch.bool, device=x.device))
                inside[-1] = inside[-1].expand(len(x), span)
            else:
                inside.append(valid_mask(length // STEPS_PER_TOKEN, span))
        return self.logits(tokens, inside, bool(lengths))


def _channels(inputs: tuple[InputSpec, ...]) -> dict[str, int]:
    """Return the channels of each input, if all are sequences."""
    for spec in inputs:
        if len(spec.shape) != 2 or spec.shape[0] < STEPS_PER_TOKEN:
            msg = (
                f"model 'har': input {spec.name!r} has the shape {spec.shape}; needed "
                f"is a sequence (T, C) of T >= {STEPS_PER_TOKEN} steps with C channels "
                "each"
            )
            raise ConfigError(msg)
        check_name("har", spec)
    return {spec.name: spec.shape[1] for spec in inputs}


@models.register("har")
def har(
    inputs: tuple[InputSpec, ...],
    num_classes: int,
    *,
    filters: int = 32,
    hidden: int = 128,
    heads: int = 6,
    attention: int = 512,
    classifier: int = 64,
    dropout: float = 0.1,
) -> nn.Module:
    """Build the network of FedAPM's experiments on KU-HAR.

    Parameters: ``NAME_conv`` of every input, then ``NAME_rnn`` of every input,
    ``fuse_att`` and ``classifier``; 420 814 numbers for KU-HAR (acc, gyro, each of
    64 steps with 3 channels, and 8 classes).

    Parameters
    ----------
    inputs
        One or more sequences, each ``(T, C)`` with T >= 8; they may differ in T and
        C, and may be ragged.
    num_classes
        Number of outputs: the classes, or another number that the task needs.
    filters
        Channels of the first of the three convolutions; the others have 2 and 4
        times as many.
    hidden
        Size of a GRU's state, which is that of a token.
    heads
        Heads of the attention.
    attention
        Width of the layer that scores tokens.
    classifier
        Width of the layer before the logits.
    dropout
        Rate of dropout in encoders and classifier, in [0, 1).

    Raises
    ------
    ConfigError
        If the inputs or the options do not suit.
    """
    check_inputs("har", inputs, num_classes)
    options = FusionOptions(
        model="har",
        filters=filters,
        hidden=hidden,
        heads=heads,
        attention=attention,
        classifier=classifier,
        dropout=dropout,
    )
    return HAR(_channels(inputs), num_classes, options)
