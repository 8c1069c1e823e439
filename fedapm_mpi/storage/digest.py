"""Digests of a client's state and of the final state of a run.

The digest of a run depends on no rank, placement or file: two runs with the same digest
have the same server and the same clients, bit for bit.
"""

from collections.abc import Iterable
from hashlib import sha256

import numpy as np
from torch import Tensor

from fedapm_mpi.algorithms.base import ClientState


def state_digest(state: ClientState) -> bytes:
    """Return the SHA-256 of a client's state: its tensors by name, in sorted order."""
    digest = sha256()
    for name in sorted(state):
        tensor = state[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_tensor_bytes(tensor))
    return digest.digest()


def run_digest(server: Iterable[Tensor], clients: np.ndarray) -> str:
    """Return the digest of a run: SHA-256 of the server's state and all clients'.

    Parameters
    ----------
    server
        The server's arrays, row 0 of the first being u.
    clients : (m, 32)
        Each client's `state_digest`, in client order.
    """
    digest = sha256(b"fedapm digest 1\n")
    for tensor in server:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_tensor_bytes(tensor))
    digest.update(np.ascontiguousarray(clients).tobytes())
    return digest.hexdigest()


def _tensor_bytes(tensor: Tensor) -> memoryview:
    """Return a tensor's values as they lie in memory."""
    return tensor.detach().reshape(-1).numpy().data.cast("B")
