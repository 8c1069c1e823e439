"""Recurrent networks over samples of different lengths."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fedapm_mpi.models.layers.padding import valid_mask, zero_padding


def gru_tokens(rnn: nn.GRU, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the states of a GRU at each step, one token a step.

    Parameters
    ----------
    rnn
        One direction, batch first.
    x
        Sequences, ``(n, T, C)``.
    lengths
        Their lengths, int64 ``(n,)``, from 0; all T if None.

    Returns
    -------
    tokens
        ``(n, S, hidden)``, S the longest length, at least 1. Packed: no step beyond a
        sample's length is computed, and none is read.
    inside
        bool ``(n, S)``, true where a sample has a token.
    """
    if lengths is None:
        everywhere = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        return rnn(x)[0], everywhere
    span = max(1, int(lengths.max()))
    inside = valid_mask(lengths, span)
    # A sample of length 0 gets one step of zeros, which `inside` excludes.
    first = zero_padding(x[:, :1], inside[:, :1])
    x = torch.cat((first, x[:, 1:span]), dim=1)
    packed = pack_padded_sequence(
        x, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
    )
    tokens, _ = pad_packed_sequence(rnn(packed)[0], batch_first=True)
    return tokens, inside
