r"""FedAPM: consensus ADMM in which part of every model stays with its client.

Client i holds a personal block :math:`v_i`, its own copy :math:`u_i` of the shared
block and an **unscaled** dual :math:`\pi_i`; the server holds u. A participant solves
approximately, with client weight :math:`\alpha_i`, weight decay :math:`\mu`,
:math:`\hat f_i = f_i + \tfrac\mu2\|\cdot\|^2`, and :math:`\tilde u` either the
broadcast u or :math:`u_i` (`v_step_at`),

.. math::
   v_i &\leftarrow \arg\min_v \; \alpha_i \hat f_i(v, \tilde u)
         + \tfrac\sigma2 \|v - v_i\|^2, \\
   u_i &\leftarrow \arg\min_{u'} \; \alpha_i \hat f_i(v_i, u')
         + \langle \pi_i, u' - u \rangle + \tfrac\rho2 \|u' - u\|^2, \\
   \pi_i &\leftarrow \pi_i + \rho (u_i - u),

and the server's next u is the mean of :math:`z_i = u_i + \pi_i/\rho` over **all** m
clients, those that sat the round out with what they last had.

Reference: FedAPM, arXiv 2506.04672, algorithm 1.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from .. import admm
from .base import (
    BatchSize,
    ClientState,
    LocalProblem,
    NotNegative,
    Positive,
    Round,
    Sharing,
    Work,
    algorithms,
    as_work,
    forbid_criterion,
)


@algorithms.register("fedapm")
@dataclass(frozen=True, kw_only=True)
class FedAPM:
    """FedAPM with gradient descent on mini-batches for both local problems."""

    rho: Positive
    r"""Penalty :math:`\rho`, in units of the loss per squared unit of u."""

    sigma: NotNegative
    r"""Proximal coefficient :math:`\sigma` of the v problem."""

    lr_personal: Positive
    """Step size of the v phase."""

    lr_shared: Positive
    """Step size of the u phase."""

    batch_size: BatchSize
    """Samples in a mini-batch; 0 is the full batch."""

    personal_work: Work
    """Length of the v phase."""

    shared_work: Work
    r"""Length of the u phase. With ``xi`` it ends after the first epoch at whose end
    :math:`\|\alpha_i\nabla\hat f_i + \pi_i + \rho(u_i-u)\|^2 \le \xi_i`, or after
    ``max_epochs``: mini-batches at a fixed step size leave a gradient norm below which
    no tolerance is ever met."""

    weight_decay: NotNegative = 0.0
    r"""L2 decay :math:`\mu` of both blocks, inside the client weight."""

    v_step_at: Literal["global", "local"] = "global"
    """Shared block under the v step: the broadcast u (as in the authors' code) or the
    client's own copy (as in the paper)."""

    u_init: Literal["global", "local"] = "global"
    """Where the u step starts: at the broadcast u or at the client's own copy."""

    alpha_in_v_step: bool = True
    r"""Whether the v problem weighs its loss by :math:`\alpha_i` (as in the theory and
    the authors' code) or not (as in the paper's algorithm box)."""

    sharing: ClassVar[Sharing] = "split"
    rows: ClassVar[int] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "personal_work", as_work(self.personal_work))
        object.__setattr__(self, "shared_work", as_work(self.shared_work))
        forbid_criterion(personal_work=self.personal_work)

    def new_client(self, shared: Tensor, personal: Tensor) -> ClientState:
        state = {
            "shared": shared.clone(),
            "personal": personal.clone(),
            "dual": torch.zeros_like(shared),
        }
        if self.shared_work.xi is not None:
            state["xi"] = torch.tensor([self.shared_work.xi], dtype=torch.float64)
        return state

    def client_step(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: LocalProblem,
        weight: float,
    ) -> Tensor:
        (u_server,) = broadcast
        vote_before = admm.vote(client["shared"], client["dual"], self.rho)
        self._solve_personal(u_server, client, problem, weight)
        self._solve_shared(u_server, client, problem, weight)
        admm.ascend_dual(client["dual"], client["shared"], u_server, self.rho)
        vote_after = admm.vote(client["shared"], client["dual"], self.rho)
        return (vote_after - vote_before)[None]

    def server_step(self, server: Tensor, total: Tensor, round_: Round) -> None:
        server.add_(total, alpha=1 / round_.num_clients)

    def _solve_personal(
        self, u_server: Tensor, client: ClientState, problem: LocalProblem, alpha: float
    ) -> None:
        v, v_start = problem.personal, client["personal"]
        v.copy_(v_start)
        at_server = self.v_step_at == "global"
        problem.shared.copy_(u_server if at_server else client["shared"])
        for batch in problem.batches("personal", self.personal_work, self.batch_size):
            step = admm.personal_gradient(
                problem.gradient("personal", batch),
                v,
                v_start,
                weight=alpha if self.alpha_in_v_step else 1.0,
                weight_decay=self.weight_decay,
                sigma=self.sigma,
            )
            v.sub_(step, alpha=self.lr_personal)
        v_start.copy_(v)

    def _solve_shared(
        self, u_server: Tensor, client: ClientState, problem: LocalProblem, alpha: float
    ) -> None:
        u, dual = problem.shared, client["dual"]
        u.copy_(u_server if self.u_init == "global" else client["shared"])

        def augmented(gradient: Tensor) -> Tensor:
            return admm.shared_gradient(
                gradient,
                u,
                u_server,
                dual,
                weight=alpha,
                weight_decay=self.weight_decay,
                rho=self.rho,
            )

        def descend(work: Work) -> None:
            for batch in problem.batches("shared", work, self.batch_size):
                step = augmented(problem.gradient("shared", batch))
                u.sub_(step, alpha=self.lr_shared)

        if self.shared_work.xi is None:
            descend(self.shared_work)
        else:
            xi = client["xi"].mul_(self.shared_work.decay or 1.0)
            for _ in range(self.shared_work.max_epochs or 1):
                descend(Work(epochs=1))
                residual = augmented(problem.full_gradient("shared"))
                if float(torch.dot(residual, residual)) <= float(xi):
                    break
        client["shared"].copy_(u)
