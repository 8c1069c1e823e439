"""Attention that fuses the tokens of several inputs into one vector.

This is "fuse_base" of FedMultimodal, which FedAPM (arXiv 2506.04672) uses for its
multimodal experiments.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedapm_mpi.models.base import check_rate, check_sizes
from fedapm_mpi.models.layers.padding import zero_padding

PADDING_SCORE = -1e5
"""Score of a padded token; its weight underflows to zero."""


class FuseBase(nn.Module):
    """Weighted sums of tokens, one per head.

    The scores of a token x are W2 tanh(W1 x + b1) + b2, one per head; a softmax over
    the tokens turns the scores of a head into weights. There are no projections of
    queries or values, no residual and no dropout.

    Parameters
    ----------
    width
        Size of a token.
    heads
        Number of weighted sums.
    inner
        Rows of W1.
    """

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.att_fc1 = nn.Linear(width, inner)
        self.att_fc2 = nn.Linear(inner, heads)

    def weights(self, x: Tensor, inside: Tensor | None = None) -> Tensor:
        """Return the weights of the tokens, ``(n, heads, tokens)``.

        They sum to one over the tokens; those of padded tokens are zero, except in
        a sample that has no token at all, where they are uniform.
        """
        scores: Tensor = self.att_fc2(torch.tanh(self.att_fc1(x)))
        scores = scores.transpose(1, 2)
        if inside is not None:
            scores = scores.masked_fill(~inside[:, None], PADDING_SCORE)
        return torch.softmax(scores, dim=-1)

    def forward(self, x: Tensor, inside: Tensor | None = None) -> Tensor:
        """Fuse the tokens.

        Parameters
        ----------
        x
            Tokens, ``(n, tokens, width)``.
        inside
            Tokens that are not padding, bool ``(n, tokens)``; all if None.

        Returns
        -------
        Tensor
            ``(n, heads * width)``, head by head; zeros for a sample without tokens.
        """
        if inside is not None:
            # A weight of zero alone would let a NaN through, and the uniform weights of
            # a sample without tokens would let padding through.
            x = zero_padding(x, inside)
        return (self.weights(x, inside) @ x).flatten(1)


@dataclass(frozen=True, kw_only=True)
class FusionOptions:
    """Options that FedAPM's multimodal models have in common, checked.

    Parameters
    ----------
    model
        Name of the model, for messages.
    hidden
        Size of a token.
    heads
        Heads of the attention.
    attention
        Width of the layer that scores tokens.
    classifier
        Width of the layer before the logits.
    dropout
        Rate of dropout in encoders and classifier, in [0, 1).
    filters
        Channels of the first convolution of an encoder; for models that have one.

    Raises
    ------
    ConfigError
        If a size is below 1, or the rate is not in [0, 1).
    """

    model: str
    hidden: int
    heads: int
    attention: int
    classifier: int
    dropout: float
    filters: int = 1

    def __post_init__(self) -> None:
        check_sizes(
            self.model,
            filters=self.filters,
            hidden=self.hidden,
            heads=self.heads,
            attention=self.attention,
            classifier=self.classifier,
        )
        check_rate(self.model, dropout=self.dropout)


class Fused(nn.Module):
    """Base of FedAPM's multimodal models: it fuses tokens and classifies.

    A model adds its encoders first, so that these come first among its parameters, then
    calls `add_head`.
    """

    def add_head(self, num_classes: int, options: FusionOptions) -> None:
        """Add ``fuse_att`` and ``classifier``, which give `num_classes` logits."""
        hidden, heads = options.hidden, options.heads
        self.fuse_att = FuseBase(hidden, heads, options.attention)
        self.classifier = nn.Sequential(
            nn.Linear(heads * hidden, options.classifier),
            nn.ReLU(),
            nn.Dropout(options.dropout),
            nn.Linear(options.classifier, num_classes),
        )

    def input_encoders(self) -> tuple[str, ...]:
        """Return the names of the parts that read the inputs."""
        names = (name for name, _ in self.named_children())
        return tuple(n for n in names if n not in ("fuse_att", "classifier"))

    def logits(
        self, tokens: Sequence[Tensor], inside: Sequence[Tensor], masked: bool
    ) -> Tensor:
        """Return logits ``(n, num_classes)`` of the tokens of all inputs.

        Parameters
        ----------
        tokens
            Tokens of each input, ``(n, T, hidden)``.
        inside
            Tokens of each input that are not padding, bool ``(n, T)``.
        masked
            Whether to apply `inside`; else all tokens count.
        """
        mask = torch.cat(tuple(inside), dim=1) if masked else None
        fused = self.fuse_att(torch.cat(tuple(tokens), dim=1), mask)
        logits: Tensor = self.classifier(fused)
        return logits
