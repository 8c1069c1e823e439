"""Vectors of codes."""

import torch
from torch import Tensor, nn

from fedapm_mpi.errors import DataError


class CodeEmbedding(nn.Module):
    """Embeds codes, such as those of words.

    Parameters
    ----------
    name
        Of the input, for messages.
    vocabulary
        Number of codes.
    width
        Size of a token.
    std
        Standard deviation of what the vectors begin with.
    """

    def __init__(self, name: str, vocabulary: int, width: int, std: float) -> None:
        super().__init__()
        self.name = name
        self.weight = nn.Parameter(torch.randn(vocabulary, width) * std)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens ``(n, T, width)`` of codes ``(n, T)``.

        Raises
        ------
        DataError
            If codes that are stored as numbers are negative, or not below the
            vocabulary. Those that are stored as codes have been checked.
        """
        if x.is_floating_point():
            x = self._checked(x.long())
        return nn.functional.embedding(x, self.weight)

    def _checked(self, codes: Tensor) -> Tensor:
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or high >= len(self.weight):
            wrong = low if low < 0 else high
            msg = (
                f"model 'transformer': input {self.name!r} has the code {wrong}, but "
                f"vocabulary.{self.name} is {len(self.weight)}; set it to the number "
                "of codes"
            )
            raise DataError(msg)
        return codes
