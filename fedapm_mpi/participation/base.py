"""The interface of a participation scheme; every rank evaluates it from the seed."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.registry import Registry


class Participation(Protocol):
    """A way to choose the clients that take part in a round."""

    def check(self, num_clients: int) -> None:
        """Raise `ConfigError` if the scheme does not fit the number of clients."""
        ...

    def choose(self, num_clients: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the participants' ids in ascending order.

        Parameters
        ----------
        num_clients
            All clients, m.
        rng
            The round's generator, the same on every rank.
        """
        ...


participation: Registry[Callable[..., Participation]] = Registry(
    "participation", __package__
)
