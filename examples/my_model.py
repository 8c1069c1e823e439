"""A model of your own: a residual network of dense layers.

    fedapm train examples/sensors.yaml model=./examples/my_model.py:net model.width=32

The first `InputSpec` gives the shape of a sample; keyword-only parameters are options.
`split` names parameters: "head.*" is personal in examples/sensors.yaml.
"""

from torch import Tensor, nn


class Residual(nn.Module):
    """One block: x + W₂ relu(W₁ x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, of the shape of `x`."""
        return x + self.layers(x)


class Net(nn.Module):
    """An embedding, some residual blocks, and a head."""

    def __init__(self, size: int, num_classes: int, width: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Linear(size, width)
        self.body = nn.Sequential(*(Residual(width) for _ in range(depth)))
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores (n, num_classes) of samples (n, size)."""
        return self.head(self.body(self.embed(x)))


def net(inputs, num_classes, *, width: int = 16, depth: int = 2) -> nn.Module:
    """Build the model for a data set with one input, a vector."""
    (spec,) = inputs
    return Net(spec.shape[0], num_classes, width, depth)
