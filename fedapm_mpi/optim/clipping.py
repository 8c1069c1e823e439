"""Clipping of what a local step follows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fedapm_mpi.optim.clip_options import Clip


def clip_gradients(gradients: Sequence[Tensor], clip: Clip) -> Tensor:
    """Bound gradients in place; return whether any was above the bound, a 0-dim Tensor.

    Nothing is read back from a device. A gradient within the bound keeps its bits.

    Parameters
    ----------
    gradients : each (d,)
        Of the blocks that a step trains.
    clip
        The bound.

    Notes
    -----
    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural
    networks", ICML 2013, section 3.2 (by norm).
    """
    if clip.value is not None:
        largest = torch.stack([_largest(one) for one in gradients]).max()
        for one in gradients:
            one.clamp_(-clip.value, clip.value)
        return largest > clip.value
    assert clip.norm is not None
    norms = torch.stack([torch.linalg.vector_norm(one) for one in gradients])
    if clip.blocks == "joint":
        norms = torch.linalg.vector_norm(norms).expand(len(norms))
    scales = (clip.norm / norms).clamp_(max=1.0)  # of a zero it is infinity: 1
    for one, scale in zip(gradients, scales.unbind(), strict=True):
        one.mul_(scale)
    return (norms > clip.norm).any()


def _largest(vector: Tensor) -> Tensor:
    """Return the largest magnitude, 0 of an empty vector."""
    return vector.abs().max() if len(vector) else vector.new_zeros(())
