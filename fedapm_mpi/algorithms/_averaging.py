r"""Base of the algorithms whose server averages models.

The mean's change is a pseudo-gradient for a server optimizer, `optim.server`.
"""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from fedapm_mpi.algorithms._local_training import LocalTraining
from fedapm_mpi.algorithms.base import ClientState, RoundInfo, weighted_delta
from fedapm_mpi.optim.server import ServerOptimizer


@dataclass(frozen=True, kw_only=True)
class FederatedAveraging(LocalTraining):
    r"""A server that averages clients' shared blocks, by client weight.

    With ``server_average: participants``

    .. math:: \Delta = \sum_{i\in S} \alpha_i (u_i - u^t) \Big/ \sum_{i\in S} \alpha_i,

    with ``all`` the next u is :math:`\sum_i \alpha_i u_i` over all clients, where those
    that did not take part count with their last :math:`u_i`.
    """

    server_average: Literal["participants", "all"] = "participants"
    """Clients in the mean: this round's participants, or all clients with their last
    updates (as in the FedAPM authors' code)."""

    server_optimizer: ServerOptimizer = field(default_factory=ServerOptimizer)
    """Step of the server's model along the mean change."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.server_average == "all" and not self.server_optimizer.plain:
            msg = (
                "server_average: all is a mean of models, not a change to step along; "
                "leave server_optimizer out, or average participants"
            )
            raise ValueError(msg)

    def server_memory_rows(self) -> int:
        """Return the rows that the server optimizer keeps."""
        return self.server_optimizer.memory_rows

    def new_client(self, shared: Tensor, personal: Tensor) -> ClientState:
        """Return the client's own copies of both blocks."""
        return {"shared": shared.clone(), "personal": personal.clone()}

    def make_update(
        self, u: Tensor, u_server: Tensor, client: ClientState, weight: float
    ) -> Tensor:
        """Make `u` the client's own shared block; return the increment, (1, d)."""
        own = client["shared"]
        before = u_server if self.server_average == "participants" else own
        increment = weighted_delta(u, before, weight)
        own.copy_(u)
        return increment

    def server_step(self, server: Tensor, total: Tensor, round_: RoundInfo) -> None:
        """Step along the mean's change."""
        if round_.index == 0:
            self.server_optimizer.begin(server[1:])
        if self.server_average == "all":
            server[0].add_(total[0], alpha=1 / round_.weight_total)
        elif round_.weight_sum > 0:  # not so where all participants are empty
            change = total[0] / round_.weight_sum
            self.server_optimizer.step(server[0], change, server[1:])
