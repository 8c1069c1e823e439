r"""The methods as the FedAPM authors' code runs them on CIFAR-10, for comparison only.

There the two halves of the model are mixed up. The flat vector :math:`\theta` has the
convolutions u in front and the dense layers v behind. The optimiser takes u for what is
shared and v for what is personal, whereas the loader copies v from the server:

* v starts every participation at the server's mean, :math:`v^t`, and is then trained;
* u is never reset: each client trains its own :math:`u_i` on, against the server's
  :math:`u^t` in FedAPM, without any tie to it in the others;
* FedAPM's duals are kept for both, but only those of u enter a gradient.

With client weight :math:`\alpha_i` (:math:`1/m`: leave ``client_weights: uniform``) and
weight decay :math:`\mu`, the step of a batch is, each phase with the other half fixed,

.. math::
   v &\leftarrow v - \eta \bigl(\alpha_i (\nabla_v f_i + \mu v)
        + \sigma (v - v^t)\bigr), \\
   u_i &\leftarrow u_i - \eta \bigl(\alpha_i (\nabla_u f_i + \mu u_i) + \pi_{u,i}
        + \rho (u_i - u^t)\bigr), \\
   \pi_i &\leftarrow \pi_i + \rho (\theta_i - \theta^t) \text{ after both phases,}

and the server's next :math:`\theta` is the plain mean over **all** clients of
:math:`\theta_i + \pi_i/\rho`, of the others' :math:`\theta_i`. Evaluate with
``evaluation: {shared: client}``, as the authors report every client's own
:math:`\theta_i`, however long ago it took part. Name one as
``benchmarks.paper.cifar_official:FedAPM``.

Reference: the code of FedAPM, arXiv 2506.04672, for its model CNN.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedapm_mpi.algorithms.base import (
    Algorithm,
    BatchSize,
    ClientState,
    LocalBudget,
    NonNegativeFloat,
    Objective,
    PositiveFloat,
    RoundInfo,
    Sharing,
    convert_mappings,
)
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.optim.local import forbid_tolerance

Pull = Callable[[Tensor, Tensor], object]
"""Adds to the gradient (d,) of a half what draws its value (d,) to somewhere."""


@dataclass(frozen=True, kw_only=True)
class _MixedUp(Algorithm):
    """What all of them have in common."""

    lr: PositiveFloat
    r"""Step size :math:`\eta` of both halves."""

    batch_size: BatchSize
    """Samples in a mini-batch; 0 is the full batch."""

    work: LocalBudget
    """Length of each phase."""

    weight_decay: NonNegativeFloat = 0.0
    r"""L2 decay :math:`\mu`, inside the client weight."""

    conv_size: int = 5088
    """Length of u: numbers in the parameters at the front of the model that are its
    convolutions. 5 088 is that of the model ``cnn`` on color images."""

    sharing: ClassVar[Sharing] = "all"

    def __post_init__(self) -> None:
        convert_mappings(self)
        forbid_tolerance(work=self.work)
        if self.conv_size < 1:
            msg = f"conv_size must be at least 1, got {self.conv_size}"
            raise ValueError(msg)

    def mini_batch_size(self) -> int:
        """Return the option."""
        return self.batch_size

    def local_budgets(self) -> list[LocalBudget]:
        """Return the length of a phase, which is the same for all."""
        return [self.work]

    @property
    def convs(self) -> slice:
        """Where u lies."""
        return slice(0, self.conv_size)

    @property
    def dense(self) -> slice:
        """Where v lies."""
        return slice(self.conv_size, None)

    def new_client(self, shared: Tensor, personal: Tensor) -> ClientState:
        """Return the client's own model; all of it counts as shared."""
        return {"shared": shared.clone(), "personal": personal.clone()}

    def client_step(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> Tensor:
        """Load, train, and return the change of what the mean is taken of."""
        (server,) = broadcast
        own, before = client["shared"], self.augmented_model(client)
        problem.personal.copy_(client["personal"])  # empty
        problem.shared.copy_(own)
        problem.shared[self.dense].copy_(server[self.dense])
        self.train(server, client, problem, weight)
        own.copy_(problem.shared)
        self.update_dual(server, client)
        return (self.augmented_model(client) - before)[None]

    def server_step(self, server: Tensor, total: Tensor, round_: RoundInfo) -> None:
        """Keep the mean over all clients, whether they took part or not."""
        server.add_(total, alpha=1 / round_.num_clients)

    def augmented_model(self, client: ClientState) -> Tensor:
        """Return what the server takes the mean of, a copy in float64."""
        return client["shared"].to(torch.float64, copy=True)

    def update_dual(self, server: Tensor, client: ClientState) -> None:
        """Update what else the client keeps."""

    def train(
        self, server: Tensor, client: ClientState, problem: Objective, weight: float
    ) -> None:
        """Do the local work on `problem.shared`."""
        raise NotImplementedError

    def phase(self, problem: Objective, half: slice, weight: float, pull: Pull) -> None:
        """Take SGD steps on one half, the other one frozen."""
        name: Literal["shared", "personal"]
        name = "shared" if half == self.convs else "personal"
        for batch in problem.batches(name, self.work, self.batch_size):
            self.step(problem, batch, half, weight, pull)

    def step(
        self,
        problem: Objective,
        batch: object,
        half: slice,
        weight: float,
        pull: Pull,
    ) -> None:
        """Take one SGD step on one half."""
        _freeze_rest(problem, half)
        value = problem.shared[half]
        slope = problem.gradient("shared", batch)[half]
        slope.add_(value, alpha=self.weight_decay).mul_(weight)
        pull(slope, value)
        value.sub_(slope, alpha=self.lr)


@dataclass(frozen=True, kw_only=True)
class FedAPM(_MixedUp):
    """Phase of v, phase of u, duals of both."""

    rho: PositiveFloat
    r"""Penalty :math:`\rho`."""

    sigma: NonNegativeFloat
    r"""Proximal coefficient :math:`\sigma` of v."""

    def admm_penalty(self) -> float:
        """Return the option rho."""
        return self.rho

    def new_client(self, shared: Tensor, personal: Tensor) -> ClientState:
        """Return the client's own model and a dual for all of it."""
        return {
            **super().new_client(shared, personal),
            "dual": torch.zeros_like(shared),
        }

    def augmented_model(self, client: ClientState) -> Tensor:
        r"""Return :math:`\theta_i + \pi_i/\rho`, in float64."""
        return (
            super()
            .augmented_model(client)
            .add_(client["dual"].double(), alpha=1 / self.rho)
        )

    def update_dual(self, server: Tensor, client: ClientState) -> None:
        """Update the dual, with what was broadcast before the round."""
        client["dual"].add_(client["shared"] - server, alpha=self.rho)

    def train(
        self, server: Tensor, client: ClientState, problem: Objective, weight: float
    ) -> None:
        """Train v around the server's, then u around the server's and its dual."""
        v_server, u_server = server[self.dense], server[self.convs]
        dual = client["dual"][self.convs]

        def to_start(slope: Tensor, v: Tensor) -> None:
            slope.add_(v - v_server, alpha=self.sigma)

        def to_consensus(slope: Tensor, u: Tensor) -> None:
            slope.add_(dual).add_(u - u_server, alpha=self.rho)

        self.phase(problem, self.dense, weight, to_start)
        self.phase(problem, self.convs, weight, to_consensus)


@dataclass(frozen=True, kw_only=True)
class FedAlt(_MixedUp):
    """Phase of v, phase of u, no penalties: u is purely local, v is averaged."""

    def train(
        self, server: Tensor, client: ClientState, problem: Objective, weight: float
    ) -> None:
        """Train v, then u."""
        self.phase(problem, self.dense, weight, _free)
        self.phase(problem, self.convs, weight, _free)


@dataclass(frozen=True, kw_only=True)
class FedSim(_MixedUp):
    """On each batch a step of v, then one of u at the new v: one phase.

    The authors' last code trains nothing here; this is the version behind their logs.
    """

    def train(
        self, server: Tensor, client: ClientState, problem: Objective, weight: float
    ) -> None:
        """Train both halves in turn."""
        for batch in problem.batches("joint", self.work, self.batch_size):
            self.step(problem, batch, self.dense, weight, _free)
            self.step(problem, batch, self.convs, weight, _free)


@dataclass(frozen=True, kw_only=True)
class FedAvg(_MixedUp):
    """Phase of u alone: v stays as it was at first, and nothing learned is shared."""

    def train(
        self, server: Tensor, client: ClientState, problem: Objective, weight: float
    ) -> None:
        """Train u."""
        self.phase(problem, self.convs, weight, _free)


@dataclass(frozen=True, kw_only=True)
class FedProx(_MixedUp):
    """As FedAvg, around the client's own u at the start of the round."""

    mu: NonNegativeFloat = 0.1
    """Proximal coefficient, outside the client weight."""

    def train(
        self, server: Tensor, client: ClientState, problem: Objective, weight: float
    ) -> None:
        """Train u around where it starts."""
        start = client["shared"][self.convs]

        def to_start(slope: Tensor, u: Tensor) -> None:
            slope.add_(u - start, alpha=self.mu)

        self.phase(problem, self.convs, weight, to_start)


def _free(slope: Tensor, value: Tensor) -> None:
    """Draw nowhere."""


def _freeze_rest(problem: Objective, half: slice) -> None:
    """Spare autograd the work for the parameters outside a half, if it has a model.

    Code that needs gradients after this selects its parameters again.
    """
    model = getattr(problem, "model", None)
    if model is None:
        return
    cut = half.stop or half.start
    parameters, start = dict(model.module.named_parameters()), 0
    for name in model.shared_names:
        stop = start + parameters[name].numel()
        if start < cut < stop or cut >= model.size_shared:
            msg = (
                f"conv_size={cut} must end where a parameter of the model does, and "
                f"leave something behind it; {name} has the numbers {start} to "
                f"{stop - 1} of {model.size_shared}"
            )
            raise ConfigError(msg)
        parameters[name].requires_grad_((start < cut) == (half.stop is not None))
        start = stop
