"""ResNet-18 for images, with batch or group normalisation."""

from collections.abc import Callable
from functools import partial
from typing import Literal

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
    image_layout,
    to_channels_first,
    to_channels_last,
)

Norm = Callable[[int], nn.Module]
WIDTHS = (1, 2, 4, 8)
"""Channels of the four stages, as multiples of the first."""


class Block(nn.Module):
    """Two convolutions and a shortcut.

    Parameters
    ----------
    inner, outer
        Channels that come in and go out.
    stride
        Of the first convolution.
    norm
        From channels to a normalisation.
    """

    def __init__(self, inner: int, outer: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, padding=1, bias=False)
        self.bn1 = norm(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.bn2 = norm(outer)
        self.downsample = nn.Sequential()
        if stride != 1 or inner != outer:
            self.downsample.append(nn.Conv2d(inner, outer, 1, stride, bias=False))
            self.downsample.append(norm(outer))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output ``(n, outer, H', W')`` for ``(n, inner, H, W)``."""
        shortcut = self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet18(nn.Module):
    """A stem, four stages of two blocks, a mean over the image, a dense layer.

    Parameters
    ----------
    channels
        Of an image.
    channels_last
        Whether images come as ``(n, H, W, C)``.
    num_classes
        Number of logits.
    width
        Channels of the first stage.
    stem
        As of `resnet18`.
    norm
        From channels to a normalisation.
    """

    def __init__(
        self,
        channels: int,
        channels_last: bool,
        num_classes: int,
        *,
        width: int,
        stem: str,
        norm: Norm,
    ) -> None:
        super().__init__()
        self.channels_last = channels_last
        side, stride = (7, 2) if stem == "large" else (3, 1)
        self.conv1 = nn.Conv2d(
            channels, width, side, stride, padding=side // 2, bias=False
        )
        self.bn1 = norm(width)
        self.pool = nn.MaxPool2d(3, 2, 1) if stem == "large" else nn.Identity()
        inner = width
        for stage, factor in enumerate(WIDTHS, 1):
            outer = factor * width
            first = Block(inner, outer, 1 if stage == 1 else 2, norm)
            blocks = nn.Sequential(first, Block(outer, outer, 1, norm))
            self.add_module(f"layer{stage}", blocks)
            inner = outer
        self.fc = nn.Linear(inner, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(
                    module.weight, mode="fan_out", nonlinearity="relu"
                )
        # Blocks add up, so that features are large; begin with even odds all the same.
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(n, num_classes)`` of the images."""
        x = image
        for stage in self.stages():
            x = stage.run(x)
        return x

    def stages(self) -> list[Stage]:
        """Return the layout, the stem, the four layers, and the classifier."""
        layers = [getattr(self, f"layer{k}") for k in range(1, len(WIDTHS) + 1)]
        return [
            Stage((), lambda image: to_channels_last(image, self.channels_last)),
            Stage((self.conv1, self.bn1), self._stem),
            *(Stage((layer,), layer) for layer in layers[:-1]),
            Stage((layers[-1],), lambda x: layers[-1](x).mean((2, 3))),
            Stage((self.fc,), self.fc),
        ]

    def _stem(self, x: Tensor) -> Tensor:
        stem: Tensor = self.pool(F.relu(self.bn1(self.conv1(to_channels_first(x)))))
        return stem


@models.register("resnet18")
def resnet18(
    inputs: tuple[InputSpec, ...],
    num_classes: int,
    *,
    groups: int | None = 32,
    stem: Literal["small", "large"] = "small",
    width: int = 64,
) -> nn.Module:
    """Build a ResNet-18: 11 173 962 numbers for CIFAR-10.

    Parameters: ``conv1``, ``bn1``, ``layer1`` to ``layer4`` and ``fc``, named as in
    torchvision, whichever the normalisation. With batch normalisation the running
    means and variances are buffers, which each client keeps unless ``buffers: mean``;
    group normalisation has none, and does not mix clients' statistics.

    Parameters
    ----------
    inputs
        One input that holds an image, ``(H, W)``, ``(C, H, W)`` or ``(H, W, C)``.
    num_classes
        Number of outputs: the classes, or another number that the task needs.
    groups
        Groups of the group normalisation, which must divide `width`; None for batch
        normalisation.
    stem
        ``small`` for small images: a convolution of 3 × 3. ``large``: 7 × 7 with
        stride 2, and a pooling.
    width
        Channels of the first stage; the others have 2, 4 and 8 times as many.

    Raises
    ------
    ConfigError
        If the inputs or the options do not suit.

    References
    ----------
    He, Zhang, Ren and Sun (2016), arXiv:1512.03385; group normalisation under label
    skew: Hsieh, Phanishayee, Mutlu and Gibbons (2020), arXiv:1910.00189.
    """
    check_inputs("resnet18", inputs, num_classes)
    check_sizes("resnet18", groups=1 if groups is None else groups, width=width)
    if len(inputs) != 1:
        msg = (
            f"model 'resnet18': the data set has {len(inputs)} inputs, "
            f"{describe(inputs)}; needed is exactly one, an image"
        )
        raise ConfigError(msg)
    if groups is not None and width % groups:
        msg = f"model 'resnet18': groups {groups} does not divide width {width}"
        raise ConfigError(msg)
    (channels, *_), channels_last = image_layout("resnet18", inputs[0])
    norm: Norm = nn.BatchNorm2d if groups is None else partial(nn.GroupNorm, groups)
    return ResNet18(
        channels, channels_last, num_classes, width=width, stem=stem, norm=norm
    )
