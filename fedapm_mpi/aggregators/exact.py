r"""An exact sum: the same bits at any number of ranks and with any placement.

A floating-point sum depends on how its terms are grouped, and ranks group them. Here
each term is rounded to a multiple of one power of two, :math:`2^{-k}`, and the integers
are summed: that is associative. With :math:`|x| < 2^e` for every element and n terms,

.. math:: k = 62 - e - \lceil \log_2 n \rceil

keeps every partial sum below :math:`2^{62}`, so overflow is impossible, and a term's
rounding error below :math:`2^{-62} n` of the largest magnitude: far finer than float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import frexp

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.aggregators.base import (
    AggregationContext,
    Aggregator,
    Update,
    aggregators,
)
from fedapm_mpi.comm import SERVER, Communicator

BLOCK_ELEMENTS = 2**18
"""Elements converted and summed at a time, to keep temporaries in the cache."""


def scale_exponent(largest: float, terms: int) -> int:
    """Return k: an element x becomes the integer nearest to ``x * 2**k``."""
    _, exponent = frexp(largest)  # |x| <= largest < 2**exponent
    return 62 - exponent - (max(1, terms) - 1).bit_length()


def encode(updates: Sequence[Update], length: int, exponent: int) -> NDArray[np.int64]:
    """Return the sum of updates as integers, in units of ``2**-exponent``."""
    total = np.zeros(length, dtype=np.int64)
    scaled = np.empty(length)
    for k, update in enumerate(updates):
        np.rint(_times_power(update, exponent, scaled), out=scaled)
        if k == 0:
            total[:] = scaled
        else:
            total += scaled.astype(np.int64)
    return total


def decode(total: NDArray[np.int64], exponent: int, out: Update) -> None:
    """Write integers in units of ``2**-exponent`` as float64."""
    _times_power(total, -exponent, out)


def _times_power(
    values: Update | NDArray[np.int64], exponent: int, out: Update
) -> Update:
    # Exact either way; the product is several times faster, but 2.0**1024 overflows.
    if abs(exponent) < 1000:
        return np.multiply(values, 2.0**exponent, out=out)
    return np.ldexp(values.astype(np.float64), exponent, out=out)


@aggregators.register("exact")
@dataclass(frozen=True)
class Exact(Aggregator):
    """Sum as fixed point: the same bits at any rank count, 8 bytes an element.

    The integers are summed modulo 2^64. A subclass may add integers in `encode`, such
    as masks of a secure sum, as long as those of all clients add up to 0.
    """

    bytes_per_element = 8
    any_order = True

    def sum(
        self,
        comm: Communicator,
        updates: Sequence[Update],
        context: AggregationContext,
    ) -> Update:
        """See `Aggregator.sum`."""
        here, length = comm.rank == SERVER, context.length
        total = np.zeros(length if here else 0)
        if context.largest == 0:
            return total
        for start in range(0, length, BLOCK_ELEMENTS):
            block = slice(start, min(start + BLOCK_ELEMENTS, length))
            integers = self.encode([x[block] for x in updates], block, context)
            self.reduce(comm, integers)
            if here:
                self.decode(integers, block, context, total[block])
        return total

    def encode(
        self, updates: Sequence[Update], block: slice, context: AggregationContext
    ) -> NDArray[np.int64]:
        """Return the sum of this rank's updates as integers, (b,).

        Parameters
        ----------
        updates : each (b,)
            A block of each, in the order of ``context.clients``; maybe none.
        block
            Where the block lies in the updates.
        context
            The round.
        """
        exponent = scale_exponent(context.largest, len(context.participants))
        return encode(updates, block.stop - block.start, exponent)

    def reduce(self, comm: Communicator, integers: NDArray[np.int64]) -> None:
        """Overwrite the server's integers with the sum over ranks, modulo 2^64."""
        comm.reduce_sum(integers.view(np.uint64))

    def decode(
        self,
        integers: NDArray[np.int64],
        block: slice,
        context: AggregationContext,
        out: Update,
    ) -> None:
        """Write the sum of all updates in a block as float64, on the server."""
        exponent = scale_exponent(context.largest, len(context.participants))
        decode(integers, exponent, out)
