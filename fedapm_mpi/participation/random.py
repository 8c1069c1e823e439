"""A uniform sample of clients, without replacement."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.participation.base import participation


@participation.register("random")
@dataclass(frozen=True, kw_only=True)
class Random:
    """A set of fixed size, each such set with the same probability."""

    fraction: float | None = None
    """Share of the clients, in (0, 1]; rounded down, but at least one client."""

    count: int | None = None
    """Number of clients, instead of `fraction`."""

    def __post_init__(self) -> None:
        if (self.fraction is None) == (self.count is None):
            msg = (
                "give exactly one of fraction, count (null removes the file's value: "
                "participation.count=null)"
            )
            raise ValueError(msg)
        if self.fraction is not None and not 0 < self.fraction <= 1:
            msg = f"fraction must be in (0, 1], got {self.fraction}"
            raise ValueError(msg)
        if self.count is not None and self.count < 1:
            msg = f"count must be at least 1, got {self.count}"
            raise ValueError(msg)

    def check(self, num_clients: int) -> None:
        """See `Participation.check`."""
        if self.count is not None and self.count > num_clients:
            msg = (
                f"participation.count is {self.count}, but the data set has only "
                f"{num_clients} clients"
            )
            raise ConfigError(msg)

    def choose(self, num_clients: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """See `Participation.choose`."""
        count = self.count
        if count is None:
            # 0.29 * 100 is 28.999999999999996: do not lose a client to rounding.
            count = max(1, int((self.fraction or 1) * num_clients + 1e-9))
        return np.sort(rng.choice(num_clients, size=count, replace=False))
