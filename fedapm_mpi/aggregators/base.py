"""What a reduction is: the sum of all participants' increments, on the server."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.comm import Communicator
from fedapm_mpi.registry import Registry

Update = NDArray[np.float64]


class Aggregator(Protocol):
    """A way to sum increments; a rank brings those of its participants."""

    bytes_per_element: int
    """Bytes that one element takes on the wire."""

    any_order: bool
    """Whether the sum is the same whichever rank brings an increment. Only then are
    participants dealt anew in each round; a reduction that does not say so is not."""

    def sum(
        self,
        comm: Communicator,
        increments: Sequence[Update],
        *,
        length: int,
        largest: float,
        terms: int,
    ) -> Update:
        """Return the sum on the server; what others return is not used.

        Parameters
        ----------
        comm
            The ranks.
        increments : each (length,)
            This rank's, in the order of clients; maybe none.
        length
            Elements of an increment.
        largest
            Largest magnitude in any increment of any rank; finite.
        terms
            Increments that all ranks bring together.
        """
        ...


aggregators: Registry[Callable[[], Aggregator]] = Registry("aggregator", __package__)
