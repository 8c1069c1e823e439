"""Multilayer perceptron on all inputs at once."""

from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor, nn

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models.base import InputSpec, Stage, check_inputs, check_sizes, models
from fedapm_mpi.models.layers.flatten import Flatten


class MLP(nn.Module):
    """A body of dense layers with ReLU, and a linear head.

    Parameters
    ----------
    inputs
        The inputs, of any shapes.
    num_classes
        Number of logits.
    hidden
        Widths of the layers of the body.
    """

    def __init__(
        self, inputs: tuple[InputSpec, ...], num_classes: int, hidden: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.flatten = Flatten(inputs)
        self.body = nn.Sequential()
        for fan_in, fan_out in pairwise((self.flatten.width, *hidden)):
            self.body.append(nn.Linear(fan_in, fan_out))
            self.body.append(nn.ReLU())
        self.head = nn.Linear(hidden[-1], num_classes)

    def forward(
        self, *inputs: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return logits ``(n, num_classes)``; the padding of samples counts as zero."""
        logits: Tensor = self.head(self.body(self.flatten(*inputs, lengths=lengths)))
        return logits

    def stages(self) -> list[Stage]:
        """Return the flattening, the body's layers one by one, and the head."""
        layers = [*self.body.children(), self.head]
        return [Stage((), self.flatten), *(Stage((layer,), layer) for layer in layers)]


@models.register("mlp")
def mlp(
    inputs: tuple[InputSpec, ...],
    num_classes: int,
    *,
    hidden: tuple[int, ...] = (128,),
) -> nn.Module:
    """Build a multilayer perceptron.

    Parameters: ``body.0``, ``body.2`` and so on for the hidden layers, then ``head``,
    each with weight and bias.

    Parameters
    ----------
    inputs
        One or more inputs of any shapes; their values are concatenated,
        real and imaginary part of complex ones.
    num_classes
        Number of outputs: the classes, or another number that the task needs.
    hidden
        Widths of the hidden layers, one or more.

    Raises
    ------
    ConfigError
        If the inputs or the options do not suit.
    """
    check_inputs("mlp", inputs, num_classes, complex_numbers=True)
    if not hidden:
        msg = (
            "model 'mlp': hidden is empty; give the width of one or more layers, or "
            "use the model 'logistic', which has none"
        )
        raise ConfigError(msg)
    check_sizes("mlp", hidden=min(hidden))
    return MLP(inputs, num_classes, tuple(hidden))
