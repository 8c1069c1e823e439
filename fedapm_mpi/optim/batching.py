"""The sizes of an epoch's mini-batches."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LastBatch = Literal["auto", "keep", "drop", "merge"]
"""Treatment of the last batch of an epoch where it is smaller than the others."""


@dataclass(frozen=True)
class Batching:
    """A rule for the last batch, for a model with a smallest batch size."""

    last: LastBatch = "auto"
    """``keep`` trains on it as it is, ``drop`` leaves it out (but never the only batch
    of an epoch), ``merge`` adds it to the batch before. ``auto`` keeps it, unless it
    has fewer samples than `least`: then it is added to the batch before."""

    least: int = 1
    """Samples in the smallest batch on which the model can be trained: 1 or, say with
    BatchNorm, 2."""

    reason: str = ""
    """Reason for which the model cannot be trained on fewer."""

    def sizes(self, samples: int, size: int) -> list[int]:
        """Return the sizes of an epoch's batches; `size` 0 is the full batch."""
        if samples == 0:
            return []
        full, rest = divmod(samples, size or samples)
        sizes = [size or samples] * full
        if not rest:
            return sizes
        if not full or not self._changes(rest):
            return [*sizes, rest]
        if self.last != "drop":
            sizes[-1] += rest
        return sizes

    def smallest(self, samples: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """Return the size of each client's smallest batch, (m,); 0 without samples."""
        values, where = np.unique(samples, return_inverse=True)
        found = []
        for count in values.tolist():
            # Two full batches stand for any number of them.
            full, rest = divmod(count, size) if size else (0, count)
            few = min(full, 2) * size + rest
            found.append(min(self.sizes(few, size), default=0))
        return np.array(found, dtype=np.int64)[where]

    def passed(self, samples: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """Return the number of samples in each client's epoch, (m,)."""
        if self.last != "drop" or not size:
            return samples
        kept = samples - samples % size
        return np.where(samples < size, samples, kept)

    def _changes(self, rest: int) -> bool:
        if self.last == "auto":
            return rest < self.least
        return self.last != "keep"
