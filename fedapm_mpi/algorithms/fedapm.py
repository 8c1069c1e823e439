r"""FedAPM: consensus ADMM in which part of every model stays with its client.

Client i holds a personal block :math:`v_i`, its own copy :math:`u_i` of the shared
block and an **unscaled** dual :math:`\pi_i`; the server holds u. A participant solves
approximately, with weight decay :math:`\mu`,
:math:`\hat f_i = f_i + \tfrac\mu2\|\cdot\|^2`, and :math:`\tilde u` either the
broadcast u or :math:`u_i` (`v_step_at`),

.. math::
   v_i &\leftarrow \arg\min_v \; \hat f_i(v, \tilde u)
         + \tfrac\sigma2 \|v - v_i\|^2, \\
   u_i &\leftarrow \arg\min_{u'} \; \hat f_i(v_i, u')
         + \langle \pi_i, u' - u \rangle + \tfrac\rho2 \|u' - u\|^2, \\
   \pi_i &\leftarrow \pi_i + \rho (u_i - u),

and the server's next u is the mean of :math:`z_i = u_i + \pi_i/\rho`, by the clients'
weights :math:`\alpha_i`, over **all** m of them, those that sat the round out with what
they last had. In the paper's form (``units: weighted``) both problems have
:math:`\alpha_i \hat f_i` in place of :math:`\hat f_i`, and no mean is weighted; for
equal weights the two differ in the meaning of the numbers alone. With
``block_order: joint`` both problems are descended together, each step taking the
gradients in v and u at the same point on the same mini-batch. Either block may be
empty: with nothing personal this is consensus ADMM of the whole model (FedADMM), with
nothing shared local training; the phase of an empty block takes no step.

Where few take part, that mean moves by a fraction |S|/m of what they found, and is held
back by copies that are many rounds old. With ``server_average: participants`` it is
over the participants S for the copies and over all clients for the duals, for equal
weights

.. math:: u^{t+1} = \frac1{|S|} \sum_{i \in S} u_i + \frac1m \sum_{i=1}^m \pi_i/\rho ,

which is the same with everybody, and rests at the same points: where all
:math:`u_i = u` it says that the (weighted) duals add up to zero.

The share of the duals in that mean, :math:`1/\rho`, suits local problems that are
solved. A client that takes steps of total length s moves by
:math:`-s(\nabla f_i + \pi_i)` instead, and the duals alone then move u by
:math:`(1/\rho - s)` times their mean. Where step sizes fall, and not all take part, the
duals settle at some noise, u runs on along it in every round, and norms and losses
grow.
With ``dual_share`` :math:`\kappa` the share follows the steps,

.. math:: u^{t+1} = \frac1{|S|} \sum_{i \in S} u_i
          + \kappa \frac{\eta_t}{\eta} \frac1m \sum_{i=1}^m \pi_i/\rho ,

with :math:`\eta_t/\eta` the schedule's factor of the shared block. It rests at the same
points as before; with :math:`\kappa \eta_t / \eta = \rho s` the duals move u not at all
on average, as SCAFFOLD's control variates.

The theory asks for the accuracy of local solutions alone, exact in v and to
:math:`\xi_i` in u, however they are found. With any `optimizer` it covers phases that
end by ``xi``, and those of a fixed length as far as they get that close. One that
decays no weights moves no solution.

References: FedAPM, arXiv 2506.04672, algorithm 1; the joint order is this package's.
The participants' mean is FedDyn's server (Acar et al., ICLR 2021, algorithm 1); its
share of the duals, and that it follows the step sizes, are this package's. That norms
grow with FedDyn's where few take part: Varno et al., AdaBest, ECCV 2022.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Gt, Le
from torch import Tensor

from fedapm_mpi.algorithms._consensus_admm import RelaxedADMM
from fedapm_mpi.algorithms.base import (
    BatchSize,
    Block,
    ClientState,
    GradientHook,
    LocalBudget,
    NonNegativeFloat,
    Objective,
    RoundInfo,
    Sharing,
    algorithms,
    minimize,
)
from fedapm_mpi.optim import admm
from fedapm_mpi.optim.default_solver import (
    BATCH_SIZE,
    DEFAULT_LR,
    DERIVED,
    HALF_WORK,
    WORK,
    StepSize,
)
from fedapm_mpi.optim.fedapm_theory import Lipschitz, lyapunov_excess, unmet_conditions
from fedapm_mpi.optim.local import budgets, forbid_tolerance


@algorithms.register("fedapm")
@dataclass(frozen=True, kw_only=True)
class FedAPM(RelaxedADMM):
    """FedAPM with gradient descent on mini-batches for both local problems."""

    sigma: NonNegativeFloat = 0.0
    r"""Proximal coefficient :math:`\sigma` of the v problem, in units of a client's
    loss (`units`) per squared unit of v."""

    lr_personal: StepSize = DEFAULT_LR
    """Step size in v, on a client's loss (`units`)."""

    lr_shared: StepSize = DEFAULT_LR
    """Step size in u, on a client's loss (`units`)."""

    batch_size: BatchSize = BATCH_SIZE
    """Samples in a mini-batch; 0 is the full batch."""

    block_order: Annotated[Literal["alternate", "joint"] | None, DERIVED] = None
    """Whether v is solved for before u, as in the paper, or both are stepped jointly in
    the same passes. It follows from which work is given, and is joint if none is."""

    personal_work: Annotated[LocalBudget | None, DERIVED] = None
    """Length of the v phase, if blocks alternate; one epoch unless given."""

    shared_work: Annotated[LocalBudget | None, DERIVED] = None
    r"""Length of the u phase, if blocks alternate; one epoch unless given. With ``xi``
    it ends after the first epoch at whose end
    :math:`\|\nabla\hat f_i + \pi_i + \rho(u_i-u)\|^2 \le \xi_i` (with the client
    weight ahead of :math:`\nabla\hat f_i`, if weighted), or after ``max_epochs``:
    mini-batches at a fixed step size leave a gradient norm below which
    no tolerance is ever met."""

    joint_work: Annotated[LocalBudget | None, DERIVED] = None
    """Length of the one phase, if blocks are stepped jointly; two epochs unless
    given."""

    weight_decay: NonNegativeFloat = 0.0
    r"""L2 decay :math:`\mu` of both blocks, included in a client's loss."""

    v_step_at: Literal["global", "local"] = "global"
    """Shared block under the v step: the broadcast u (as in the authors' code) or the
    client's own copy (as in the paper)."""

    u_init: Literal["global", "local"] = "global"
    """Where the u step starts: at the broadcast u or at the client's own copy."""

    alpha_in_v_step: bool = True
    r"""With ``units: weighted``: whether the v problem weighs its loss by
    :math:`\alpha_i` (as in the theory and the authors' code) or not (as in the paper's
    algorithm box)."""

    server_average: Literal["all", "participants"] = "all"
    """Clients whose copies of the shared block the server averages: all clients, with
    their last copies (as in the paper), or this round's participants. Duals are always
    averaged over all. A configuration that gives no step size gets the latter, unless
    the penalty changes or there is a relaxation."""

    dual_share: Annotated[float, Gt(0), Le(1)] | None = None
    r"""Share :math:`\kappa` of the mean dual in the participants' mean, times the
    schedule's factor of the step size in u; `None` is all of it in every round. A
    configuration that gives no step size gets 1 where not all clients take part."""

    lipschitz: Lipschitz | None = None
    """Lipschitz constants of the clients' gradients, if known: the run then reports
    which of the theory's conditions on rho and sigma are not met."""

    sharing: ClassVar[Sharing] = "split"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._complete_order()
        self._check_order()
        self._check_average()
        if self.client_units() and not self.alpha_in_v_step:
            msg = (
                "alpha_in_v_step has no effect with units 'client', in which no local "
                "problem is weighed; leave it out"
            )
            raise ValueError(msg)

    def mini_batch_size(self) -> int:
        """Return the option."""
        return self.batch_size

    def local_budgets(self) -> list[LocalBudget]:
        """Return the phases of the block order."""
        return list(budgets(self).values())

    def trained_blocks(self) -> list[Block]:
        """Return those of the block order."""
        joint = self.block_order == "joint"
        return ["both"] if joint else ["personal", "shared"]

    def loss_decay(self) -> float:
        """Return the option."""
        return self.weight_decay

    def server_memory_rows(self) -> int:
        r"""Return 1 if the server keeps all clients' mean of :math:`\pi_i/\rho`."""
        return int(self.server_average == "participants")

    def _complete_order(self) -> None:
        """Set what follows from the order of blocks, and the order itself."""
        alternating = self.personal_work or self.shared_work
        order = self.block_order or ("alternate" if alternating else "joint")
        object.__setattr__(self, "block_order", order)
        works = {"joint_work": WORK}
        if order == "alternate":
            works = {"personal_work": HALF_WORK, "shared_work": HALF_WORK}
        for name, default in works.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)

    def _check_order(self) -> None:
        joint = self.block_order == "joint"
        needed = ("joint_work",) if joint else ("personal_work", "shared_work")
        foreign = ("personal_work", "shared_work") if joint else ("joint_work",)
        given = budgets(self)
        for name in foreign:
            if name in given:
                msg = (
                    f"{name} has no effect with block_order {self.block_order!r}, "
                    f"which takes {' and '.join(needed)}; leave it out"
                )
                raise ValueError(msg)
        if joint and self.v_step_at == "local":
            msg = (
                "v_step_at 'local' has no effect with block_order 'joint', where v is "
                "stepped at the moving u; leave it out"
            )
            raise ValueError(msg)
        given.pop("shared_work", None)
        forbid_tolerance(**given)

    def _check_average(self) -> None:
        if self.dual_share is not None:
            if not 0 < self.dual_share <= 1:
                msg = f"dual_share must lie in (0, 1], got {self.dual_share}"
                raise ValueError(msg)
            if self.server_average == "all":
                msg = (
                    "dual_share has no effect with server_average 'all', whose mean "
                    "has each dual with its copy; leave it out"
                )
                raise ValueError(msg)
        foreign = [*self.changing_penalty()]
        foreign += ["relaxation"] if self.relaxation != 1 else []
        for name in foreign:
            if self.server_average == "participants":
                msg = (
                    f"{name} needs server_average 'all': the participants' mean "
                    "assumes one penalty and an anchor at the server's u"
                )
                raise ValueError(msg)

    def warnings(self, weights: Sequence[float]) -> list[str]:
        """Return which conditions of the theory are not met, if constants are given."""
        if self.lipschitz is None:
            return []
        factors = [self.loss_factor(weight) for weight in weights]
        return unmet_conditions(self.rho, self.sigma, factors, self.lipschitz)

    def new_client(self, shared: Tensor, personal: Tensor) -> ClientState:
        """Return both blocks, a dual of zero, and the state that options need."""
        state = super().new_client(shared, personal)
        if self.shared_work is not None and self.shared_work.xi is not None:
            state["xi"] = torch.tensor([self.shared_work.xi], dtype=torch.float64)
        return state

    def augmented_model(self, client: ClientState) -> Tensor:
        r"""Return :math:`z_i`, or :math:`\pi_i/\rho`: it changes as :math:`u_i - u`."""
        if self.server_average == "all":
            return super().augmented_model(client)
        return admm.augmented_model(
            client["shared"], client["dual"], self.rho, share=0.0
        )

    def server_step(self, server: Tensor, total: Tensor, round_: RoundInfo) -> None:
        """Move u to the mean; `total` holds the changes of `augmented_model`."""
        everyone, chosen = self.factor_sums(round_)
        if self.server_average == "all":
            super().server_step(server, total, round_)
        elif chosen > 0:
            u, mean_dual = server
            mean_dual.add_(total[0], alpha=1 / everyone)
            copies = 1 / (self.dual_step * chosen)
            share = 1.0
            if self.dual_share is not None:
                share = self.dual_share * round_.step_factor
            u.add_(total[0], alpha=copies).add_(mean_dual, alpha=share)

    def solve(
        self,
        u_server: Tensor,
        anchor: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> None:
        """Solve the v problem, then the u problem; or both together."""
        u, v = problem.shared, problem.personal
        hooks = self._hooks(anchor, client, weight)
        v.copy_(client["personal"])
        if self.personal_work is not None:
            u.copy_(u_server if self.v_step_at == "global" else client["shared"])
            self._minimize(problem, "personal", self.personal_work, hooks)
        u.copy_(u_server if self.u_init == "global" else client["shared"])
        if self.joint_work is not None:
            steps = self._minimize(problem, "both", self.joint_work, hooks)
        elif self.shared_work is not None:
            solved = self._tolerance_test(problem, client, hooks, self.shared_work)
            steps = self._minimize(problem, "shared", self.shared_work, hooks, solved)
        client["personal"].copy_(v)
        # Without samples f_i is zero and so is the dual: the anchor is the solution.
        client["shared"].copy_(u if steps else anchor)

    def lagrangian(
        self, client: ClientState, u_server: Tensor, loss: float, weight: float
    ) -> tuple[float, float]:
        """Return a client's share of the augmented Lagrangian, and Lyapunov's extra."""
        share, _ = super().lagrangian(client, u_server, loss, weight)
        if "xi" not in client or self.shared_work is None:
            return share, 0.0
        decay = self.shared_work.decay or 0.0
        rho = self.penalty_of(client)
        excess = lyapunov_excess(float(client["xi"]), rho, decay)
        return share, excess * self.lagrangian_factor(weight)

    def _minimize(
        self,
        problem: Objective,
        block: Block,
        budget: LocalBudget,
        hooks: tuple[GradientHook, GradientHook],
        solved: Callable[[], bool] | None = None,
    ) -> int:
        gradient_hook, personal_hook = hooks
        return minimize(
            problem,
            block,
            budget,
            batch_size=self.batch_size,
            lr=self.lr_shared,
            lr_personal=self.lr_personal,
            gradient_hook=gradient_hook,
            personal_hook=personal_hook,
            solved=solved,
        )

    def _hooks(
        self, anchor: Tensor, client: ClientState, weight: float
    ) -> tuple[GradientHook, GradientHook]:
        """Return what turns the loss's gradients into those of the u and v problems."""
        shared_hook = partial(
            admm.shared_gradient,
            u_server=anchor,
            dual=client["dual"],
            weight=weight,
            weight_decay=self.weight_decay,
            rho=self.rho,
        )
        personal_hook = partial(
            admm.personal_gradient,
            v_start=client["personal"],
            weight=weight if self.alpha_in_v_step else 1.0,
            weight_decay=self.weight_decay,
            sigma=self.sigma,
        )
        return shared_hook, personal_hook

    def _tolerance_test(
        self,
        problem: Objective,
        client: ClientState,
        hooks: tuple[GradientHook, GradientHook],
        budget: LocalBudget,
    ) -> Callable[[], bool] | None:
        """Return a test of the u problem's gradient norm, if it has a tolerance.

        The tolerance shrinks with each participation.
        """
        if budget.xi is None:
            return None
        xi = float(client["xi"].mul_(budget.decay or 1.0))
        shared_hook, _ = hooks

        def solved() -> bool:
            residual = problem.full_gradient("shared")
            shared_hook(residual, problem.shared)
            return float(torch.dot(residual, residual)) <= xi

        return solved
