"""The interface of an aggregator, which sums the participants' updates."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.comm import Communicator
from fedapm_mpi.registry import Registry

Update = NDArray[np.float64]
"""What a client sends: one flat vector; see `PayloadLayout` for what lies where."""


@dataclass(frozen=True)
class AggregationContext:
    """What is known of a round's sum; equal on every rank but for `clients`."""

    round_index: int
    """Rounds before this one."""

    participants: NDArray[np.int64]
    """(k,) the clients that take part, ascending."""

    clients: Sequence[int]
    """The participants whose updates this rank brings, in the order of the updates."""

    seed: int
    """The run's seed; address random numbers by `utils.rng.generator` from it, with a
    purpose of your own, the round and the client."""

    length: int
    """Numbers of an update."""

    largest: float
    """Largest magnitude in any update of any rank; finite."""


class Aggregator(ABC):
    """A way to sum updates; a rank brings those of its participants."""

    bytes_per_element: int
    """Bytes of one element in a message."""

    any_order: bool = False
    """Whether the sum has the same bits whichever rank brings an update. Only then do
    participants move between the ranks of a node."""

    @abstractmethod
    def sum(
        self,
        comm: Communicator,
        updates: Sequence[Update],
        context: AggregationContext,
    ) -> Update:
        """Return the sum on the server; what other ranks return is not used.

        A collective call.

        Parameters
        ----------
        comm
            The ranks.
        updates : each (length,)
            This rank's, maybe none.
        context
            The round.
        """


aggregators: Registry[Callable[..., Aggregator]] = Registry("aggregator", __package__)
