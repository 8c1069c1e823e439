"""The server's state, new or from a checkpoint."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import checkpoint
from .algorithms import memory_rows
from .comm import SERVER
from .session import Session


@dataclass
class Server:
    """The server's state; what other ranks hold of it is not used."""

    rows: Tensor
    """(rows + memory_rows, d_shared) float64: row 0 is u, the first `rows` are sent."""

    buffers: Tensor
    """(d_buffers,) float64 mean of the participants' buffers."""

    seen: NDArray[np.bool_]
    """(m,) which clients have taken part."""

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds of it."""
        return {
            "rows": self.rows,
            "buffers": self.buffers,
            "seen": torch.from_numpy(self.seen),
        }


def restore(session: Session, saved: checkpoint.Saved | None) -> Server:
    """Return the initial state or a saved one, and set the hosted clients' likewise."""
    algorithm, initial = session.algorithm, session.initial
    height = algorithm.rows + memory_rows(algorithm)
    rows = torch.zeros(height, session.model.size_shared, dtype=torch.float64)
    rows[0] = initial["shared"]
    extra = initial["buffers"] if session.averages_buffers else torch.zeros(0)
    server = Server(rows, extra.double(), np.zeros(session.num_clients, dtype=np.bool_))
    if saved is not None:
        session.table.restore(checkpoint.load_states(saved, session.table.hosted))
        if session.comm.rank == SERVER:
            tensors = checkpoint.load_server(saved)
            server = Server(
                tensors["rows"], tensors["buffers"], tensors["seen"].numpy()
            )
    return server
