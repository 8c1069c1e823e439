r"""The server's side of methods that average models: which ones, and what of the mean.

The mean's change :math:`\Delta` is a pseudo-gradient for a server optimiser; a step of
length 1 along it is the plain mean.

References: McMahan et al., AISTATS 2017 (the mean); Hsu, Qi and Brown, "Measuring the
effects of non-identical data distribution for federated visual classification", arXiv
1909.06335, 2019 (momentum); Reddi et al., "Adaptive federated optimization", ICLR 2021,
algorithm 2 (Adam).
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Lt
from torch import Tensor

from fedapm_mpi.algorithms._sgd import LocalTraining
from fedapm_mpi.algorithms.base import (
    ClientState,
    RoundInfo,
    weighted_delta,
)

Fraction = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True)
class ServerOptimizer:
    """What the server makes of the mean change of its model."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: Literal["sgd", "adam"] = "sgd"
    """A step along the change, or Adam's (without correction of the first rounds)."""

    lr: Annotated[float, Gt(0)] = 1.0
    """Step size; with sgd 1 is the plain mean."""

    momentum: Fraction | None = None
    """Of sgd; 0 unless given."""

    beta1: Fraction | None = None
    """Of adam: decay of the mean change; 0.9 unless given."""

    beta2: Fraction | None = None
    """Of adam: decay of the mean squared change; 0.99 unless given."""

    eps: Annotated[float, Gt(0)] | None = None
    r"""Of adam: adaptivity :math:`\tau`; 0.001 unless given."""

    def __post_init__(self) -> None:
        foreign = {"sgd": ("beta1", "beta2", "eps"), "adam": ("momentum",)}
        for name in foreign.get(self.name, ()):
            if getattr(self, name) is not None:
                msg = f"server_optimizer {self.name!r} has no {name}; leave it out"
                raise ValueError(msg)

    @property
    def _tau(self) -> float:
        return 0.001 if self.eps is None else self.eps

    @property
    def plain(self) -> bool:
        """Whether the next model is just the mean."""
        return self.name == "sgd" and self.lr == 1 and not self.momentum

    @property
    def memory_rows(self) -> int:
        """Vectors that it keeps from round to round."""
        if self.name == "adam":
            return 2
        return 1 if self.momentum else 0

    def begin(self, memory: Tensor) -> None:
        r"""Set what it keeps, (memory_rows, d) zeros, to its initial values."""
        if self.name == "adam":
            memory[1].fill_(self._tau**2)

    def step(self, u: Tensor, change: Tensor, memory: Tensor) -> None:
        """Update the model in place.

        Parameters
        ----------
        u : (d,)
            The server's model.
        change : (d,)
            The mean change of it.
        memory : (memory_rows, d)
            What it keeps.
        """
        if self.name == "adam":
            beta1 = 0.9 if self.beta1 is None else self.beta1
            beta2 = 0.99 if self.beta2 is None else self.beta2
            mean, square = memory
            mean.mul_(beta1).add_(change, alpha=1 - beta1)
            square.mul_(beta2).addcmul_(change, change, value=1 - beta2)
            u.addcdiv_(mean, square.sqrt().add_(self._tau), value=self.lr)
        elif self.momentum:
            (mean,) = memory
            mean.mul_(self.momentum).add_(change)
            u.add_(mean, alpha=self.lr)
        else:
            u.add_(change, alpha=self.lr)


@dataclass(frozen=True, kw_only=True)
class FederatedAveraging(LocalTraining):
    r"""A server that averages clients' shared blocks, by client weight.

    With ``server_average: participants``

    .. math:: \Delta = \sum_{i\in S} \alpha_i (u_i - u^t) \Big/ \sum_{i\in S} \alpha_i,

    with ``all`` the next u is :math:`\sum_i \alpha_i u_i` over all clients, those that
    sat the round out with what they last had.
    """

    server_average: Literal["participants", "all"] = "participants"
    """Whom the mean is over: this round's participants, or all clients with what they
    last sent (as in the FedAPM authors' code)."""

    server_optimizer: ServerOptimizer = field(default_factory=ServerOptimizer)
    """What the server makes of the mean change."""

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
