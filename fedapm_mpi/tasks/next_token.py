"""Next-token prediction: language models, by perplexity."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedapm_mpi.tasks._dense import DenseTask
from fedapm_mpi.tasks.base import Floats, check_finite, tasks

MAX_LOG = 700.0
"""Largest exponent of a perplexity, which stays finite."""


@tasks.register("next-token")
@dataclass(frozen=True, kw_only=True)
class NextToken(DenseTask):
    """The token that follows at each place of a sequence, one of V.

    ``perplexity`` is the exponential of the mean negative log-likelihood over tokens,
    those of all samples together: samples with more tokens count more in it than in the
    loss. ``accuracy`` is the share of tokens that have the largest score.
    """

    name = "next-token"
    expects = "token scores, a floating Tensor (n, tokens, vocabulary)"
    higher_is_better: ClassVar[Mapping[str, bool]] = {
        "perplexity": False,
        "accuracy": True,
    }
    partial = ("perplexity", "accuracy")
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {"accuracy": (0.0, 1.0)}

    def output_shape(self, num_classes: int) -> tuple[int, ...]:
        """Return the shape of a sequence's scores, (tokens, V)."""
        return (*self.positions, num_classes)

    def position_losses(self, outputs: Tensor, classes: Tensor) -> Tensor:
        """Return the cross-entropy at each place, (n, tokens)."""
        losses = cross_entropy(
            outputs.flatten(0, -2),
            classes.flatten(),
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        return losses.reshape(classes.shape)

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the token with the largest score at each place, (n, tokens)."""
        return outputs.argmax(dim=-1).flatten(1)

    def prediction_size(self, num_classes: int) -> int:
        """Return the number of places."""
        return int(np.prod(self.positions))

    def metric_inputs(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return negative log-likelihood, hits and tokens of each sample, (n, 3)."""
        there, classes = self.has_target(targets), targets.clamp(min=0)
        scores = outputs.log_softmax(dim=-1).gather(-1, classes[..., None])[..., 0]
        hits = (outputs.argmax(dim=-1) == classes) & there
        sums = [torch.where(there, -scores, 0), hits, there]
        return torch.stack([one.flatten(1).sum(dim=1) for one in sums], dim=1)

    def metric_input_size(self, num_classes: int) -> int:
        """Return 3."""
        return 3

    def metrics(self, predictions: Floats, targets: Floats) -> Mapping[str, float]:
        """Return perplexity and accuracy; undefined (NaN) without tokens."""
        check_finite(predictions)
        loss, hits, tokens = predictions.sum(axis=0, dtype=np.float64).tolist()
        if not tokens:
            return {"perplexity": np.nan, "accuracy": np.nan}
        perplexity = float(np.exp(min(loss / tokens, MAX_LOG)))
        return {"perplexity": perplexity, "accuracy": hits / tokens}
