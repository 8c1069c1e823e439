"""A single-precision sum: half the bytes, but bits that depend on the rank count."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedapm_mpi.aggregators.base import (
    AggregationContext,
    Aggregator,
    Update,
    aggregators,
)
from fedapm_mpi.comm import Communicator


@aggregators.register("float32")
@dataclass(frozen=True)
class Float32(Aggregator):
    """Sum in single precision: 4 bytes an element, bits vary with the rank count."""

    bytes_per_element = 4
    any_order = False

    def sum(
        self,
        comm: Communicator,
        updates: Sequence[Update],
        context: AggregationContext,
    ) -> Update:
        """See `Aggregator.sum`."""
        total = np.zeros(context.length, dtype=np.float32)
        for update in updates:
            total += update.astype(np.float32)
        comm.reduce_sum(total)
        return total.astype(np.float64)
