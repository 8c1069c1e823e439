"""All inputs of a sample as one vector."""

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor, nn

from fedapm_mpi.models.base import InputSpec
from fedapm_mpi.models.layers.padding import valid_mask, zero_padding


class Flatten(nn.Module):
    """Concatenate the values of all inputs; it has no parameters.

    Parameters
    ----------
    inputs
        The inputs, of any shapes.
    """

    def __init__(self, inputs: tuple[InputSpec, ...]) -> None:
        super().__init__()
        self.names = tuple(i.name for i in inputs)
        self.width = sum(prod(i.shape) * (1 + i.complex) for i in inputs)

    def forward(
        self, *inputs: Tensor, lengths: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return ``(n, width)``, with zeros for the padding of ragged inputs.

        A complex number becomes its real and its imaginary part.
        """
        rows = []
        for name, x in zip(self.names, inputs, strict=True):
            if lengths and name in lengths:
                x = zero_padding(x, valid_mask(lengths[name], x.shape[1]))
            if x.is_complex():
                x = torch.view_as_real(x)
            rows.append(x.flatten(1))
        return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)
