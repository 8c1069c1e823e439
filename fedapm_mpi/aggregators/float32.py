"""A single-precision sum: half the bytes, but bits that depend on the rank count."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedapm_mpi.aggregators.base import Update, aggregators
from fedapm_mpi.comm import Communicator


@aggregators.register("float32")
@dataclass(frozen=True)
class Float32:
    """Sum in single precision: 4 bytes an element, bits vary with the rank count."""

    bytes_per_element = 4
    any_order = False

    def sum(
        self,
        comm: Communicator,
        increments: Sequence[Update],
        *,
        length: int,
        largest: float,
        terms: int,
    ) -> Update:
        """See `Reduction.sum`."""
        total = np.zeros(length, dtype=np.float32)
        for increment in increments:
            total += increment.astype(np.float32)
        comm.reduce_sum(total)
        return total.astype(np.float64)
