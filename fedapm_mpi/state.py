"""The states of the clients that a rank hosts, and the digest of a whole run."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256

import numpy as np
from torch import Tensor

from .algorithms.base import ClientState


class ClientTable:
    """States by client; one that has never taken part costs nothing.

    Parameters
    ----------
    hosted
        Clients that live on this rank.
    new_client
        Of each group of clients what returns a fresh initial state; it is the same for
        all clients of the group.
    group_of
        The group of every client, hosted or not.
    """

    def __init__(
        self,
        hosted: Iterable[int],
        new_client: Sequence[Callable[[], ClientState]],
        group_of: Sequence[int],
    ) -> None:
        self.hosted = sorted(hosted)
        self._new_client = new_client
        self._group_of = group_of
        self._initial = [new() for new in new_client]
        self._touched: dict[int, ClientState] = {}

    def view(self, client: int) -> ClientState:
        """Return a client's state for reading only."""
        if client in self._touched:
            return self._touched[client]
        return self._initial[self._group_of[client]]

    def is_touched(self, client: int) -> bool:
        """Return whether a client's state is no longer the initial one."""
        return client in self._touched

    def touch(self, client: int) -> ClientState:
        """Return a client's state to change."""
        if client not in self._touched:
            self._touched[client] = self._new_client[self._group_of[client]]()
        return self._touched[client]

    def touched(self) -> dict[int, ClientState]:
        """Return the states that are no longer the initial one, by client, in order."""
        return dict(sorted(self._touched.items()))

    def restore(self, states: Mapping[int, ClientState]) -> None:
        """Replace all states by these; clients not among them are untouched."""
        self._touched = dict(states)

    def digests(self) -> np.ndarray:
        """Return the SHA-256 of each hosted client's state, (hosted, 32) bytes."""
        untouched = [state_digest(initial) for initial in self._initial]
        rows = [
            state_digest(self._touched[i])
            if i in self._touched
            else untouched[self._group_of[i]]
            for i in self.hosted
        ]
        joined = np.frombuffer(b"".join(rows), dtype=np.uint8)
        return joined.reshape(len(rows), 32)


def state_digest(state: ClientState) -> bytes:
    """Return the SHA-256 of a client's state: its tensors by name, in sorted order."""
    digest = sha256()
    for name in sorted(state):
        tensor = state[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor_bytes(tensor))
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
        digest.update(tensor_bytes(tensor))
    digest.update(np.ascontiguousarray(clients).tobytes())
    return digest.hexdigest()


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return a tensor's values as they lie in memory."""
    return tensor.detach().reshape(-1).numpy().data.cast("B")
