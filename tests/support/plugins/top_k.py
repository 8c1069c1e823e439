"""A user's own update transform: top-k sparsification with error feedback.

Stich, Cordonnier, Jaggi, Sparsified SGD with Memory, NeurIPS 2018.
"""

from dataclasses import dataclass

import numpy as np
import torch

from fedapm_mpi.aggregators.transforms import UpdateTransform


@dataclass(frozen=True)
class TopK(UpdateTransform):
    """Send the largest entries; keep what is left for the next round."""

    fraction: float

    def new_client_state(self, length):
        return {"residual": torch.zeros(length, dtype=torch.float64)}

    def encode(self, update, state, context):
        residual = state["residual"].numpy()
        whole = update + residual
        count = max(1, int(self.fraction * len(whole)))
        sent = np.zeros_like(whole)
        largest = np.argsort(-np.abs(whole), kind="stable")[:count]
        sent[largest] = whole[largest]
        residual[:] = whole - sent
        return sent
