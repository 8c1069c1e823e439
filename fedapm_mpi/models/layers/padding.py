"""Samples of different lengths in one batch."""

import torch
from torch import Tensor


def valid_mask(lengths: Tensor, span: int) -> Tensor:
    """Return which of `span` positions lie inside each sample.

    Parameters
    ----------
    lengths
        Lengths of the samples, int64 ``(n,)``.
    span
        Number of positions, padding included.

    Returns
    -------
    Tensor
        bool ``(n, span)``; true where a sample has a value.
    """
    return torch.arange(span, device=lengths.device) < lengths[:, None]


def zero_padding(x: Tensor, inside: Tensor) -> Tensor:
    """Return `x`, ``(n, span, ...)``, with zeros outside `inside`, ``(n, span)``."""
    trailing = (1,) * (x.ndim - inside.ndim)
    return x.masked_fill(~inside.view(*inside.shape, *trailing), 0.0)
