"""Full participation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.participation.base import participation


@participation.register("full")
@dataclass(frozen=True)
class Full:
    """Every client takes part in every round."""

    def check(self, num_clients: int) -> None:
        """See `Participation.check`: fits always."""

    def choose(self, num_clients: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """See `Participation.choose`."""
        return np.arange(num_clients)
