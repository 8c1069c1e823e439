"""Convolutions in time, the encoder of FedAPM's models for motion and sound."""

from torch import Tensor, nn
from torch.nn import functional as F

from fedapm_mpi.models.layers.padding import valid_mask, zero_padding

STEPS_PER_TOKEN = 8
"""Steps of an input per token: three poolings, each by two."""


class ConvEncoder(nn.Module):
    """Three convolutions in time, each followed by ReLU, pooling by two and dropout.

    Parameters
    ----------
    channels
        Channels of the input.
    filters
        Output channels of the first convolution; the next ones have twice and four
        times as many.
    dropout
        Rate of dropout.
    """

    def __init__(self, channels: int, filters: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(channels, filters, 5, padding=2)
        self.conv2 = nn.Conv1d(filters, 2 * filters, 5, padding=2)
        self.conv3 = nn.Conv1d(2 * filters, 4 * filters, 5, padding=2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return tokens ``(n, T // 8, 4 * filters)`` of a sequence ``(n, T, C)``.

        With `lengths`, ``(n,)``, the tokens of a sample are those of the sample cut
        to its length, whatever follows it.
        """
        for conv in (self.conv1, self.conv2, self.conv3):
            if lengths is not None:
                # A convolution turns padding into its bias, which the next one would
                # carry into the sample; so padding is set to zero before each.
                x = zero_padding(x, valid_mask(lengths, x.shape[1]))
                lengths = lengths // 2
            # The maximum commutes with ReLU, so pooling may come first.
            x = F.max_pool1d(conv(x.transpose(1, 2)), 2)
            x = self.dropout(F.relu(x)).transpose(1, 2)
        return x
