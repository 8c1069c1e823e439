"""Recurrent language model: scores of the next token at each place of a text."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models.base import (
    InputSpec,
    check_inputs,
    check_rate,
    check_sizes,
    describe,
    models,
)
from fedapm_mpi.models.layers.embedding import CodeEmbedding

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}


class LanguageModel(nn.Module):
    """Embedding, recurrent layers, and scores at each place.

    Parameters
    ----------
    spec
        The input.
    num_classes
        Scores at each place, V.
    cell, embedding, hidden, layers, dropout
        As of `language_model`.
    """

    def __init__(
        self,
        spec: InputSpec,
        num_classes: int,
        *,
        cell: Literal["lstm", "gru"],
        embedding: int,
        hidden: int,
        layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = CodeEmbedding(spec.name, spec.codes, embedding, std=1.0)
        # Of one layer torch warns that its dropout has no effect.
        between = dropout if layers > 1 else 0.0
        self.recurrent = CELLS[cell](
            embedding, hidden, layers, batch_first=True, dropout=between
        )
        self.head = nn.Linear(hidden, num_classes)

    def input_encoders(self) -> tuple[str, ...]:
        """Return the name of the part that reads the input."""
        return ("embedding",)

    def forward(
        self, codes: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return scores ``(n, T, V)`` of codes ``(n, T)``.

        What follows the end of a text does not change the scores before it, so that
        `lengths` are not needed.
        """
        scores: Tensor = self.head(self.recurrent(self.embedding(codes))[0])
        return scores


@models.register("language-model")
def language_model(
    inputs: tuple[InputSpec, ...],
    num_classes: int,
    *,
    cell: Literal["lstm", "gru"] = "lstm",
    embedding: int = 8,
    hidden: int = 256,
    layers: int = 2,
    dropout: float = 0.0,
) -> nn.Module:
    """Build a recurrent language model, for the task ``next-token``.

    Parameters: ``embedding``, ``recurrent`` and ``head``. The defaults have the sizes
    of the network that federated learning has been tried with on Shakespeare's plays.

    Parameters
    ----------
    inputs
        One input of codes ``(T,)``; it may be ragged.
    num_classes
        Number of tokens that may follow, V.
    cell
        Of the recurrent layers.
    embedding
        Size of a code's vector.
    hidden
        Size of a layer's state.
    layers
        Recurrent layers.
    dropout
        Rate of dropout between layers, in [0, 1).

    Raises
    ------
    ConfigError
        If the input or the options do not suit.

    References
    ----------
    McMahan et al. (2017), arXiv:1602.05629, section 3; Hochreiter and Schmidhuber
    (1997), Long short-term memory.
    """
    check_inputs("language-model", inputs, num_classes, codes=True)
    if len(inputs) != 1 or not inputs[0].codes or len(inputs[0].shape) != 1:
        msg = (
            f"model 'language-model': the inputs are {describe(inputs)}; needed is one "
            "that holds codes (T,), such as the tokens of a text"
        )
        raise ConfigError(msg)
    if cell not in CELLS:
        msg = f"model 'language-model': cell is {cell!r} (known: {', '.join(CELLS)})"
        raise ConfigError(msg)
    sizes = {"embedding": embedding, "hidden": hidden, "layers": layers}
    check_sizes("language-model", **sizes)
    check_rate("language-model", dropout=dropout)
    return LanguageModel(inputs[0], num_classes, cell=cell, dropout=dropout, **sizes)
