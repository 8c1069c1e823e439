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

from ..comm import Communicator
from .base import Increment, reductions

BLOCK = 2**18
"""Elements converted at a time, to keep temporaries in the cache."""


def scale_exponent(largest: float, terms: int) -> int:
    """Return k: an element x becomes the integer nearest to ``x * 2**k``."""
    _, exponent = frexp(largest)  # |x| <= largest < 2**exponent
    return 62 - exponent - (max(1, terms) - 1).bit_length()


def encode(
    increments: Sequence[Increment], length: int, exponent: int
) -> NDArray[np.int64]:
    """Return the sum of the increments as integers, in units of ``2**-exponent``."""
    total = np.zeros(length, dtype=np.int64)
    for start in range(0, length, BLOCK):
        block = slice(start, start + BLOCK)
        for increment in increments:
            scaled = _times_power(increment[block], exponent)
            total[block] += np.rint(scaled, out=scaled).astype(np.int64)
    return total


def decode(total: NDArray[np.int64], exponent: int) -> Increment:
    """Return integers in units of ``2**-exponent`` as float64."""
    return _times_power(total.astype(np.float64), -exponent)


def _times_power(values: Increment, exponent: int) -> Increment:
    # Exact either way; the product is several times faster, but 2.0**1024 overflows.
    if abs(exponent) < 1000:
        product: Increment = values * 2.0**exponent
        return product
    return np.ldexp(values, exponent)


@reductions.register("exact")
@dataclass(frozen=True)
class Exact:
    """Sum as fixed point: the same bits at any rank count, 8 bytes an element."""

    bytes_per_element = 8

    def sum(
        self,
        comm: Communicator,
        increments: Sequence[Increment],
        *,
        length: int,
        largest: float,
        terms: int,
    ) -> Increment:
        """See `Reduction.sum`."""
        if largest == 0:
            return np.zeros(length)
        exponent = scale_exponent(largest, terms)
        total = encode(increments, length, exponent)
        comm.sum_to_server(total)
        return decode(total, exponent)
