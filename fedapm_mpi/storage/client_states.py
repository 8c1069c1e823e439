"""The states of the clients that a rank hosts."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from torch import Tensor

from fedapm_mpi.algorithms.base import ClientState
from fedapm_mpi.errors import TrainingError
from fedapm_mpi.storage.digest import state_digest
from fedapm_mpi.storage.tensor_store import TensorStore


class ClientStateStore:
    """States by client; one that has never taken part costs nothing.

    Parameters
    ----------
    hosted
        Clients that live on this rank.
    new_client
        For each group of clients a function that returns a new initial state; it is
        the same for all clients of the group.
    group_of
        The group of every client, hosted or not.
    kept
        Where states are stored. Other ranks may see it too: a state can then be that of
        a client that lives there.
    """

    def __init__(
        self,
        hosted: Iterable[int],
        new_client: Sequence[Callable[[], ClientState]],
        group_of: Sequence[int],
        kept: TensorStore[ClientState],
    ) -> None:
        self.hosted = sorted(hosted)
        self._new_client = new_client
        self._group_of = group_of
        self._initial = [new() for new in new_client]
        self._kept = kept

    def peek(self, client: int) -> ClientState:
        """Return a client's state for reading only."""
        return self._kept.get(client) or self._initial[self._group_of[client]]

    def is_materialized(self, client: int) -> bool:
        """Return whether a client's state is no longer the initial one."""
        return client in self._kept

    def checkout(self, client: int) -> ClientState:
        """Return a client's state to be changed, and then passed to `commit`."""
        state = self._kept.get(client)
        if state is None:
            state = self._new_client[self._group_of[client]]()
            state = self._kept.put(client, state)
        return dict(state)

    def commit(self, client: int, state: ClientState) -> None:
        """Store a state that `checkout` returned, after it was changed.

        Raises
        ------
        TrainingError
            If it has other tensors than before, by name, shape or dtype.
        """
        kept = self._kept.get(client) or {}
        layouts = [{n: (t.shape, t.dtype) for n, t in s.items()} for s in (kept, state)]
        if layouts[0] != layouts[1]:
            names = {*kept, *state}
            name = min(n for n in names if layouts[0].get(n) != layouts[1].get(n))
            msg = (
                f"a step of client {client} left {name!r} in its state, or changed its "
                "shape or dtype, or removed it; what a client keeps is what the "
                "algorithm's new_client returns"
            )
            raise TrainingError(msg)
        for name, tensor in state.items():
            if tensor is not kept[name]:
                kept[name].copy_(tensor)

    def materialized(self) -> dict[int, ClientState]:
        """Return the hosted clients' states that are no longer the initial one."""
        found = ((client, self._kept.get(client)) for client in self.hosted)
        return {client: state for client, state in found if state is not None}

    def misfit(self, client: int, state: ClientState) -> str | None:
        """Return how a saved state differs in layout from the client's, or `None`."""
        return find_mismatch(self._initial[self._group_of[client]], state)

    def restore(self, states: Mapping[int, ClientState]) -> None:
        """Store the states of a resumed run; other clients keep their initial state."""
        for client, state in states.items():
            self._kept.put(client, state)

    def digests(self) -> np.ndarray:
        """Return the SHA-256 of each hosted client's state, (hosted, 32) bytes."""
        initial = [state_digest(state) for state in self._initial]
        states = self.materialized()
        rows = [
            state_digest(states[i]) if i in states else initial[self._group_of[i]]
            for i in self.hosted
        ]
        joined = np.frombuffer(b"".join(rows), dtype=np.uint8)
        return joined.reshape(len(rows), 32)


def find_mismatch(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> str | None:
    """Return what differs in names, shapes or dtypes; `None` if nothing does."""
    for name in sorted({*wanted, *found}):
        layouts = [
            f"{tensors[name].dtype} {tuple(tensors[name].shape)}"
            if name in tensors
            else "absent"
            for tensors in (wanted, found)
        ]
        if layouts[0] != layouts[1]:
            return f"{name!r} is {layouts[1]}, not {layouts[0]},"
    return None
