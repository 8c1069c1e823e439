"""A user's own aggregator: pairwise masks of a secure sum, added modulo 2^64.

Bonawitz et al., Practical Secure Aggregation for Privacy-Preserving Machine Learning,
CCS 2017, without key agreement and drop-outs.
"""

from dataclasses import dataclass

import numpy as np

from fedapm_mpi.aggregators.exact import Exact
from fedapm_mpi.utils.rng import generator

SEEN = []
"""What this rank has put on the wire, for a test."""


@dataclass(frozen=True)
class MaskedSum(Exact):
    """Hide every client's integers by masks that cancel in the sum of all."""

    def encode(self, updates, block, context):
        total = super().encode(updates, block, context).view(np.uint64)
        for client in context.clients:
            for other in context.participants.tolist():
                if other != client:
                    mask = self.mask(client, other, block, context)
                    total = total + mask if client < other else total - mask
        SEEN.append(total.copy())
        return total.view(np.int64)

    def mask(self, client, other, block, context):
        pair = sorted((client, other))
        rng = generator(context.seed, "mask", context.round_index, *pair)
        whole = rng.integers(0, 2**64, context.length, dtype=np.uint64)
        return whole[block]
