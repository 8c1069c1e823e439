"""Convolutional network for small images, FedAPM's model for CIFAR-10."""

from torch import Tensor, nn
from torch.nn import functional as F

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models.base import (
    InputSpec,
    Stage,
    check_inputs,
    check_sizes,
    describe,
    models,
)
from fedapm_mpi.models.layers.images import (
    ImageSize,
    image_layout,
    to_channels_first,
    to_channels_last,
)


class CNN(nn.Module):
    """Two convolutions, each halving the image, and two dense layers.

    Parameters
    ----------
    size
        Channels, height and width of an image.
    channels_last
        Whether images come as ``(n, H, W, C)``.
    num_classes
        Number of logits.
    channels
        Output channels of the two convolutions.
    hidden
        Width of the first dense layer.
    """

    def __init__(
        self,
        size: ImageSize,
        channels_last: bool,
        num_classes: int,
        *,
        channels: tuple[int, int],
        hidden: int,
    ) -> None:
        super().__init__()
        depth, height, width = size
        self.channels_last = channels_last
        self.conv1 = nn.Conv2d(depth, channels[0], 3, padding=1)
        self.conv2 = nn.Conv2d(channels[0], channels[1], 3, padding=1)
        self.fc1 = nn.Linear(channels[1] * (height // 4) * (width // 4), hidden)
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(n, num_classes)`` of the images."""
        for stage in self.stages():
            image = stage.run(image)
        return image

    def stages(self) -> list[Stage]:
        """Return the layout, two convolutions and two dense layers, with their ReLU."""
        return [
            Stage((), lambda image: to_channels_last(image, self.channels_last)),
            Stage(
                (self.conv1,),
                lambda x: _convolve_and_pool(self.conv1, to_channels_first(x)),
            ),
            Stage(
                (self.conv2,), lambda x: _convolve_and_pool(self.conv2, x).flatten(1)
            ),
            Stage((self.fc1,), lambda x: F.relu(self.fc1(x))),
            Stage((self.fc2,), self.fc2),
        ]


def _convolve_and_pool(convolution: nn.Module, x: Tensor) -> Tensor:
    # The maximum commutes with ReLU: pooling first gives the same values and gradients
    # from a quarter of the work.
    return F.relu(F.max_pool2d(convolution(x), 2))


@models.register("cnn")
def cnn(
    inputs: tuple[InputSpec, ...],
    num_classes: int,
    *,
    channels: tuple[int, int] = (16, 32),
    hidden: int = 128,
) -> nn.Module:
    """Build the network of FedAPM's experiments on CIFAR-10.

    Parameters: conv1, conv2, fc1, fc2, each with weight and bias; 268 650 numbers
    for CIFAR-10. An image is ``(H, W)``, ``(C, H, W)`` or ``(H, W, C)``; of three
    axes, the smaller one of the first and the last holds the channels.

    Parameters
    ----------
    inputs
        One input that holds an image of at least 4 by 4 pixels.
    num_classes
        Number of outputs: the classes, or another number that the task needs.
    channels
        Output channels of the two convolutions.
    hidden
        Width of the dense layer between convolutions and logits.

    Raises
    ------
    ConfigError
        If the inputs or the options do not suit.
    """
    check_inputs("cnn", inputs, num_classes)
    check_sizes("cnn", channels=min(channels), hidden=hidden)
    if len(inputs) != 1:
        msg = (
            f"model 'cnn': the data set has {len(inputs)} inputs, {describe(inputs)}; "
            "needed is exactly one, an image"
        )
        raise ConfigError(msg)
    size, channels_last = image_layout("cnn", inputs[0])
    if min(size[1:]) < 4:
        msg = (
            f"model 'cnn': input {inputs[0].name!r} of shape {inputs[0].shape} is an "
            f"image of {size[1]} by {size[2]} pixels; needed are 4 by 4 or more, as "
            "two poolings halve it"
        )
        raise ConfigError(msg)
    return CNN(size, channels_last, num_classes, channels=channels, hidden=hidden)
