"""The server's state, new or from a checkpoint."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.algorithms import ClientState
from fedapm_mpi.comm import SERVER
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.storage import checkpoint
from fedapm_mpi.storage.client_states import find_mismatch
from fedapm_mpi.training.context import TrainingContext


@dataclass
class ServerState:
    """The server's state; it is used on the server only."""

    rows: Tensor
    """(rows + server_memory_rows, d_shared) float64: row 0 is u, and the first `rows`
    are broadcast."""

    buffers: Tensor
    """(d_buffers,) float64 mean of the participants' buffers."""

    seen: NDArray[np.bool_]
    """(m,) which clients have taken part."""

    penalties: Tensor
    """(m,) float64, the penalty that each client last worked with; empty for
    algorithms without one."""

    dual_sum: Tensor
    """(d_shared,) float64 sum of all duals, where it is followed; else empty."""

    change: Tensor
    """(d_shared,) float64 change of u in the last round; not saved."""

    participants: int
    """Clients that took part in the last round; not saved."""

    rho: float | None
    """Penalty of the next round; `None` for algorithms without one."""

    def use_penalty(self, clients: NDArray[np.int64]) -> Tensor:
        """Note that clients work with the present penalty; return the ones before."""
        before = self.penalties.clone()
        if self.rho is not None:
            self.penalties[torch.from_numpy(clients)] = self.rho
        return before

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds of it."""
        return {
            "rows": self.rows,
            "buffers": self.buffers,
            "seen": torch.from_numpy(self.seen),
            "penalties": self.penalties,
            "dual_sum": self.dual_sum,
            "rho": torch.tensor(
                [] if self.rho is None else [self.rho], dtype=torch.float64
            ),
        }


def restore_server(
    context: TrainingContext, saved: checkpoint.CheckpointInfo | None
) -> ServerState:
    """Return the initial state or a saved one, and set the hosted clients' likewise."""
    algorithm, groups = context.algorithm, context.groups
    m, d = context.federation.num_clients, context.payload.shared_length
    height = algorithm.rows + algorithm.server_memory_rows()
    rows = torch.zeros(height, d, dtype=torch.float64)
    rows[0] = groups.initial_shared()
    buffers = groups.members[0].initial["buffers"]
    rho = algorithm.admm_penalty()
    server = ServerState(
        rows=rows,
        buffers=buffers[: context.payload.buffer_length].double(),
        seen=np.zeros(m, dtype=np.bool_),
        penalties=torch.full(
            (0 if rho is None else m,), rho or 0.0, dtype=torch.float64
        ),
        dual_sum=torch.zeros(d if context.config.diagnostics.dual_sum else 0).double(),
        change=torch.zeros(d, dtype=torch.float64),
        participants=0,
        rho=rho,
    )
    if saved is not None:
        error: FedAPMError | None = None
        try:
            states, tensors = _read(context, saved, server)
        except FedAPMError as caught:
            error = caught
        context.comm.raise_collectively(error)
        context.table.restore(states)
        if context.comm.rank == SERVER:
            server = replace(
                server,
                rows=tensors["rows"],
                buffers=tensors["buffers"],
                penalties=tensors["penalties"],
                dual_sum=tensors["dual_sum"],
                seen=tensors["seen"].numpy(),
                rho=float(tensors["rho"]) if len(tensors["rho"]) else None,
            )
    return server


def _read(
    context: TrainingContext, saved: checkpoint.CheckpointInfo, fresh: ServerState
) -> tuple[dict[int, ClientState], dict[str, Tensor]]:
    """Return the hosted clients' states and, on the server, its arrays.

    Raises
    ------
    CheckpointError
        If they cannot be read.
    ConfigError
        If they are not of the names, shapes and dtypes of this run's.
    """
    states = checkpoint.load_states(saved, context.table.hosted)
    whose = ((f"client {i}", context.table.misfit(i, states[i])) for i in states)
    tensors: dict[str, Tensor] = {}
    faults = list(whose)
    if context.comm.rank == SERVER:
        tensors = checkpoint.load_server(saved)
        faults.insert(0, ("the server", find_mismatch(fresh.tensors(), tensors)))
    for name, fault in faults:
        if fault is not None:
            msg = (
                f"{saved.directory} does not fit this model and algorithm: {fault} of "
                f"{name}; was their code changed? Continue with the code as it was, "
                "or start a new run"
            )
            raise ConfigError(msg)
    return states, tensors
