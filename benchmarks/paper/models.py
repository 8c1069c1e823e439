"""Models of the study that the package does not bring."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models.base import InputSpec
from fedapm_mpi.models.layers.attention import FuseBase
from fedapm_mpi.models.layers.conv import ConvEncoder

HEADS = 4


class PictureSound(nn.Module):
    """Tokens of an image and of audio, fused by attention.

    The encoders are ``picture_*`` and ``sound_conv``; their outputs are fused by
    ``fuse_att`` and classified by ``classifier``.
    """

    def __init__(self, sound_channels: int, num_classes: int, filters: int) -> None:
        super().__init__()
        width = 4 * filters
        self.picture_conv1 = nn.Conv2d(1, filters, 3, padding=1)
        self.picture_conv2 = nn.Conv2d(filters, width, 3, padding=1)
        self.sound_conv = ConvEncoder(sound_channels, filters, 0.1)
        self.fuse_att = FuseBase(width, HEADS, 2 * width)
        self.classifier = nn.Sequential(
            nn.Linear(HEADS * width, 64),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(64, num_classes),
        )

    def forward(
        self, image: Tensor, sound: Tensor, *, lengths: Mapping[str, Tensor]
    ) -> Tensor:
        """Return logits (n, K) of images (n, 1, H, W) and audio (n, T, C)."""
        x = F.relu(F.max_pool2d(self.picture_conv1(image), 2))
        x = F.relu(F.max_pool2d(self.picture_conv2(x), 2))
        seen = F.avg_pool2d(x, 2).flatten(2).transpose(1, 2)
        (length,) = lengths.values()
        heard = self.sound_conv(sound, length)
        inside = torch.arange(heard.shape[1]) < (length // 8)[:, None]
        everywhere = inside.new_ones(len(x), seen.shape[1])
        tokens = torch.cat([seen, heard], dim=1)
        fused = self.fuse_att(tokens, torch.cat([everywhere, inside], dim=1))
        logits: Tensor = self.classifier(fused)
        return logits


def picture_sound(
    inputs: tuple[InputSpec, ...], num_classes: int, *, filters: int = 16
) -> nn.Module:
    """Build the network for audio-visual digits: an image, then ragged audio."""
    if len(inputs) != 2 or inputs[0].ragged or not inputs[1].ragged:
        msg = "picture_sound needs two inputs: an image, and audio of ragged length"
        raise ConfigError(msg)
    return PictureSound(inputs[1].shape[1], num_classes, filters)
