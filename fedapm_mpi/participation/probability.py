"""Independent (Bernoulli) participation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.participation.base import participation


@participation.register("probability")
@dataclass(frozen=True, kw_only=True)
class Probability:
    """Clients take part independently; a round may have no participants."""

    probability: float | Sequence[float]
    """One probability above 0 for all clients, or a list of m, one for each client; a
    client with probability 0 never takes part."""

    def __post_init__(self) -> None:
        given = np.atleast_1d(self.probability)
        if not all(0 <= p <= 1 for p in given):
            msg = "every probability must be in [0, 1]"
            raise ValueError(msg)
        if not np.any(given > 0):
            msg = "probability must be above 0 for at least one client"
            raise ValueError(msg)

    def check(self, num_clients: int) -> None:
        """See `Participation.check`."""
        given = np.size(self.probability)
        if np.ndim(self.probability) == 1 and given != num_clients:
            msg = (
                f"participation.probability lists {given} values, but the data set "
                f"has {num_clients} clients"
            )
            raise ConfigError(msg)

    def choose(self, num_clients: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """See `Participation.choose`."""
        return np.flatnonzero(rng.random(num_clients) < self.probability)
