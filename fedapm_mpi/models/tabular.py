"""Rows of a table: codes are embedded, and joined with numbers in dense layers."""

from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models.base import (
    InputSpec,
    Stage,
    check_inputs,
    check_name,
    check_sizes,
    describe,
    models,
)
from fedapm_mpi.models.layers.embedding import CodeEmbedding


class Tabular(nn.Module):
    """A vector for each code, dense layers over these and all numbers, a linear head.

    Parameters
    ----------
    inputs
        The inputs.
    num_classes
        Number of outputs.
    embedding, hidden
        As of `tabular`.
    """

    def __init__(
        self,
        inputs: tuple[InputSpec, ...],
        num_classes: int,
        *,
        embedding: int,
        hidden: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.names = tuple(spec.name for spec in inputs)
        self.coded = {spec.name for spec in inputs if spec.codes}
        for spec in inputs:
            if spec.codes:
                vectors = CodeEmbedding(spec.name, spec.codes, embedding, std=1.0)
                self.add_module(f"{spec.name}_embed", vectors)
        width = sum(
            prod(spec.shape) * (embedding if spec.codes else 1) for spec in inputs
        )
        self.body = nn.Sequential()
        for fan_in, fan_out in pairwise((width, *hidden)):
            self.body.append(nn.Linear(fan_in, fan_out))
            self.body.append(nn.ReLU())
        self.head = nn.Linear(hidden[-1], num_classes)

    def input_encoders(self) -> tuple[str, ...]:
        """Return the names of the parts that read the codes."""
        return tuple(f"{name}_embed" for name in self.names if name in self.coded)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return outputs ``(n, num_classes)``."""
        outputs: Tensor = self.head(self.body(self.joined(*inputs)))
        return outputs

    def joined(self, *inputs: Tensor) -> Tensor:
        """Return numbers and vectors of codes, ``(n, width)``, in order of inputs."""
        parts = []
        for name, x in zip(self.names, inputs, strict=True):
            if name in self.coded:
                x = getattr(self, f"{name}_embed")(x)
            parts.append(x.flatten(1) if x.ndim > 1 else x[:, None])
        return torch.cat(parts, dim=1)

    def stages(self) -> list[Stage]:
        """Return the embeddings, the body's layers one by one, and the head."""
        vectors = tuple(getattr(self, name) for name in self.input_encoders())
        layers = [*self.body.children(), self.head]
        return [
            Stage(vectors, self.joined),
            *(Stage((layer,), layer) for layer in layers),
        ]


@models.register("tabular")
def tabular(
    inputs: tuple[InputSpec, ...],
    num_classes: int,
    *,
    embedding: int = 8,
    hidden: tuple[int, ...] = (128,),
) -> nn.Module:
    """Build a network for rows of a table, some of whose columns are codes.

    Parameters: ``<input>_embed`` for each input of codes, ``body.0``, ``body.2`` and so
    on for the hidden layers, then ``head``, each with weight and bias.

    Parameters
    ----------
    inputs
        One input of codes or more, such as ``prepare table ids=[ward]`` makes, and any
        of numbers; none may be ragged.
    num_classes
        Number of outputs: the classes, or another number that the task needs.
    embedding
        Size of a code's vector.
    hidden
        Widths of the hidden layers, one or more.

    Raises
    ------
    ConfigError
        If the inputs or the options do not suit.

    References
    ----------
    Guo and Berkhahn (2016), arXiv:1604.06737.
    """
    check_inputs("tabular", inputs, num_classes, codes=True)
    ragged = [spec.name for spec in inputs if spec.ragged]
    if ragged or not any(spec.codes for spec in inputs):
        why = f"{ragged[0]!r} is ragged" if ragged else "none holds codes; take 'mlp'"
        msg = f"model 'tabular': the inputs are {describe(inputs)}, and {why}"
        raise ConfigError(msg)
    for spec in inputs:
        check_name("tabular", spec)
    if not hidden:
        msg = "model 'tabular': hidden is empty; give the width of one or more layers"
        raise ConfigError(msg)
    check_sizes("tabular", embedding=embedding, hidden=min(hidden))
    return Tabular(inputs, num_classes, embedding=embedding, hidden=tuple(hidden))
