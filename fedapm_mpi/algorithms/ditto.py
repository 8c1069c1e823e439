r"""Ditto: FedAvg, and a whole personal model per client, pulled towards the shared one.

A participant trains its copy of the global model w as in FedAvg, from the broadcast
:math:`w^t`, and then, from where it last left it, a model :math:`\theta_i` of its own:

.. math::
   \theta_i \leftarrow \theta_i
      - \eta \bigl(\nabla f_i(\theta_i) + \lambda (\theta_i - w^t)\bigr).

The server averages the copies of w. Nothing of :math:`\theta_i` is sent and w knows
nothing of it, so the server's model is FedAvg's, mini-batch for mini-batch; with
:math:`\lambda = 0` the :math:`\theta_i` are local-only training. A client is evaluated
with :math:`\theta_i`, which until it first takes part is the initial model.

With an `optimizer`, each of the two models has its own state. The problem of
:math:`\theta_i` has the same solution by any of them, but the paper's rates are for
SGD, and the global model is FedAvg's with that optimizer.

Reference: Li et al., "Ditto: fair and robust federated learning through
personalization", ICML 2021, algorithm 1.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from fedapm_mpi.algorithms._averaging import FederatedAveraging
from fedapm_mpi.algorithms.base import (
    Block,
    ClientState,
    LocalBudget,
    NonNegativeFloat,
    Objective,
    Sharing,
    algorithms,
)
from fedapm_mpi.optim.default_solver import DEFAULT_LR, WORK, StepSize
from fedapm_mpi.optim.hooks import pull


@algorithms.register("ditto")
@dataclass(frozen=True, kw_only=True)
class Ditto(FederatedAveraging):
    """SGD on the global model, then on the client's own, pulled towards the former."""

    lam: NonNegativeFloat = 0.1
    r"""Pull :math:`\lambda` of the own model towards the broadcast one."""

    lr_global: StepSize = DEFAULT_LR
    """Step size of the global model."""

    lr_personal: StepSize = DEFAULT_LR
    """Step size of the own model."""

    global_work: LocalBudget = WORK
    """Length of the global model's training."""

    personal_work: LocalBudget = WORK
    """Length of the own model's training."""

    sharing: ClassVar[Sharing] = "all"

    def local_budgets(self) -> list[LocalBudget]:
        """Return both phases, in their order."""
        return [self.global_work, self.personal_work]

    def optimizer_states(self) -> list[tuple[str, Block]]:
        """Return the global model, and the client's own, all of which is shared."""
        return [("", "both"), ("own", "shared")]

    def new_client(self, shared: Tensor, personal: Tensor) -> ClientState:
        """Return the client's copies of the global model, and its own model."""
        return {**super().new_client(shared, personal), "own": shared.clone()}

    def client_step(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> Tensor:
        (w_server,) = broadcast
        problem.shared.copy_(w_server)
        # FedAvg's phase, and the first to draw: its batches and dropout are FedAvg's.
        self.minimize(problem, "both", self.global_work, self.lr_global)
        increment = self.make_update(problem.shared, w_server, client, weight)
        problem.shared.copy_(client["own"])
        self.minimize(
            problem,
            "shared",
            self.personal_work,
            self.lr_personal,
            partial(pull, centre=w_server, strength=self.lam),
            model="own",
        )
        client["own"].copy_(problem.shared)
        return increment

    def load_personal_model(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> None:
        problem.shared.copy_(client["own"])
