"""U-Net: scores of each pixel of an image."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models.base import (
    InputSpec,
    check_inputs,
    check_sizes,
    models,
)
from fedapm_mpi.models.layers.images import (
    ImageSize,
    one_image,
    to_channels_first,
    to_channels_last,
)

GROUPS = 4
"""Groups of the normalisation; channels are multiples of it."""


class Block(nn.Module):
    """Two convolutions of three by three, each normalised in groups, with ReLU.

    Parameters
    ----------
    channels_in, channels_out
        Channels of the images.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(GROUPS, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Return images of the same height and width."""
        x = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(x)))


class UNet(nn.Module):
    """Levels that halve the image, and levels that double it and see the former.

    Parameters
    ----------
    size
        Channels, height and width of an image.
    channels_last
        Whether images come as ``(n, H, W, C)``.
    num_classes
        Scores of each pixel, K.
    width, depth
        As of `unet`.
    """

    def __init__(
        self,
        size: ImageSize,
        channels_last: bool,
        num_classes: int,
        *,
        width: int,
        depth: int,
    ) -> None:
        super().__init__()
        self.channels_last = channels_last
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        self.merge = nn.ModuleList()
        before = size[0]
        for own in widths:
            self.down.append(Block(before, own))
            before = own
        for own in reversed(widths[:-1]):
            self.up.append(nn.ConvTranspose2d(2 * own, own, 2, stride=2))
            self.merge.append(Block(2 * own, own))
        self.head = nn.Conv2d(width, num_classes, 1)

    def input_encoders(self) -> tuple[str, ...]:
        """Return the name of the part that reads the image."""
        return ("down",)

    def forward(self, image: Tensor) -> Tensor:
        """Return scores ``(n, K, H, W)`` of the images."""
        x = to_channels_first(to_channels_last(image, self.channels_last))
        seen = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            seen.append(x)
        for up, merge, before in zip(
            self.up, self.merge, reversed(seen[:-1]), strict=True
        ):
            # An odd height or width has lost a row in the pooling.
            doubled = up(x, output_size=before.shape[2:])
            x = merge(torch.cat((before, doubled), dim=1))
        scores: Tensor = self.head(x)
        return scores


@models.register("unet")
def unet(
    inputs: tuple[InputSpec, ...],
    num_classes: int,
    *,
    width: int = 16,
    depth: int = 2,
) -> nn.Module:
    """Build a small U-Net, for the task ``segmentation``.

    Parameters: ``down``, ``up``, ``merge`` (each by level) and ``head``. It has group
    normalisation, which has no buffers that clients would have to average.

    Parameters
    ----------
    inputs
        One image: (H, W), (C, H, W) or (H, W, C).
    num_classes
        Classes of a pixel.
    width
        Channels of the first level, a multiple of 4; each level has twice as many.
    depth
        Number of times that the image is halved.

    Raises
    ------
    ConfigError
        If the input or the options do not suit.

    References
    ----------
    Ronneberger, Fischer and Brox (2015), U-Net: convolutional networks for biomedical
    image segmentation, arXiv:1505.04597; Wu and He (2018), arXiv:1803.08494.
    """
    check_inputs("unet", inputs, num_classes)
    check_sizes("unet", width=width, depth=depth)
    if width % GROUPS:
        msg = f"model 'unet': width {width} is no multiple of {GROUPS}"
        raise ConfigError(msg)
    size, channels_last = one_image("unet", inputs)
    if min(size[1:]) < 2**depth:
        msg = (
            f"model 'unet': an image of {size[1]} x {size[2]} cannot be halved {depth} "
            "times; lower depth"
        )
        raise ConfigError(msg)
    return UNet(size, channels_last, num_classes, width=width, depth=depth)
