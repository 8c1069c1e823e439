"""Multinomial logistic regression."""

from collections.abc import Mapping

from torch import Tensor, nn

from fedapm_mpi.models.base import InputSpec, Stage, check_inputs, models
from fedapm_mpi.models.layers.flatten import Flatten


class Logistic(nn.Module):
    """One linear layer on all inputs; its loss is convex.

    Parameters
    ----------
    inputs
        The inputs, of any shapes.
    num_classes
        Number of logits.
    """

    def __init__(self, inputs: tuple[InputSpec, ...], num_classes: int) -> None:
        super().__init__()
        self.flatten = Flatten(inputs)
        self.linear = nn.Linear(self.flatten.width, num_classes)

    def forward(
        self, *inputs: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return logits ``(n, num_classes)``; the padding of samples counts as zero."""
        logits: Tensor = self.linear(self.flatten(*inputs, lengths=lengths))
        return logits

    def stages(self) -> list[Stage]:
        """Return the flattening and the linear layer."""
        return [Stage((), self.flatten), Stage((self.linear,), self.linear)]


@models.register("logistic")
def logistic(inputs: tuple[InputSpec, ...], num_classes: int) -> nn.Module:
    """Build a multinomial logistic regression.

    Parameters: ``linear.weight`` and ``linear.bias``.

    Parameters
    ----------
    inputs
        One or more inputs of any shapes; their values are concatenated,
        real and imaginary part of complex ones.
    num_classes
        Number of outputs: the classes, or another number that the task needs.

    Raises
    ------
    ConfigError
        If there is no input or no output.
    """
    check_inputs("logistic", inputs, num_classes, complex_numbers=True)
    return Logistic(inputs, num_classes)
