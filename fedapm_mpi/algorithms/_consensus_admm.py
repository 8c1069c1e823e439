r"""Base of consensus ADMM methods: duals, augmented models, a penalty that may change.

Every client i has a copy :math:`u_i` of the shared block, an **unscaled** dual
:math:`\pi_i` and the penalty :math:`\rho_i` that it last worked with; the server's u
minimises the augmented Lagrangian given all of these,

.. math:: u = \sum_i (\rho_i u_i + \pi_i) \Big/ \sum_i \rho_i ,

which is the mean of :math:`u_i + \pi_i/\rho` as long as the penalty is the same for
all; where duals and penalties are of the clients' own losses (``units: client``), every
term has the factor :math:`\alpha_i`. Since duals are unscaled, a new penalty leaves
them alone; it takes effect for a client when that takes part.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Annotated, Literal

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from fedapm_mpi.algorithms._units import ConsensusUnits
from fedapm_mpi.algorithms.base import (
    ClientState,
    Objective,
    PositiveFloat,
    RoundInfo,
    convert_mappings,
)
from fedapm_mpi.optim import admm
from fedapm_mpi.optim.default_solver import RHO, Penalty
from fedapm_mpi.utils.types import PositiveInt, strict

GOLDEN_RATIO = (1 + sqrt(5)) / 2
"""Upper bound of the dual step lengths for which ADMM is known to converge."""


@strict
@dataclass(frozen=True)
class ResidualBalancing:
    """Residual balancing: the penalty follows the ratio of the residuals.

    Reference: Boyd et al., "Distributed optimization and statistical learning via
    ADMM", 2011, section 3.4.1; relative residuals: Wohlberg, arXiv 1704.06209.
    """

    ratio: Annotated[float, Gt(1)] = 10.0
    """Multiple of one residual above which the other one changes the penalty."""

    factor: Annotated[float, Gt(1)] = 2.0
    """Factor by which the penalty is then multiplied or divided."""

    every: PositiveInt = 1
    """Rounds between two checks of the residuals."""

    until: PositiveInt | None = None
    """Last round with a check; convergence theory needs a penalty that settles."""

    rho_min: PositiveFloat | None = None
    """Lower bound of the penalty; no bound unless given."""

    rho_max: PositiveFloat | None = None
    """Upper bound of the penalty; no bound unless given. Gradient steps of size ``lr``
    need a penalty well below ``2 / lr``."""

    residuals: Literal["absolute", "relative"] = "absolute"
    """Form of the residuals that are compared. The absolute primal residual includes
    clients that did not take part, so that few participants drive the penalty up; the
    relative one is small where u is large, as in networks, and lets it fall."""

    def __post_init__(self) -> None:
        counts = (self.every, 1 if self.until is None else self.until)
        if self.ratio <= 1 or self.factor <= 1 or min(counts) < 1:
            msg = (
                "residual_balancing: ratio and factor must be above 1, every and until "
                "at least 1"
            )
            raise ValueError(msg)
        if (self.rho_min or 0.0) > (self.rho_max or inf):
            msg = "residual_balancing: rho_min must not be above rho_max"
            raise ValueError(msg)

    def bounded(self, rho: float) -> float:
        """Return the nearest penalty within the bounds."""
        return min(max(rho, self.rho_min or 0.0), self.rho_max or inf)


@strict
@dataclass(frozen=True, kw_only=True)
class PenaltySchedule:
    r"""A penalty that grows, or falls, by a factor: :math:`\rho \leftarrow g \rho`.

    A penalty that grows while step sizes fall holds copies together the more tightly
    the less they still learn. Convergence theory needs one that settles: give `until`
    or a bound (Boyd et al. 2011, section 3.4.1).
    """

    growth: PositiveFloat
    """Factor g of each change; above 1 it grows, below it falls."""

    every: PositiveInt = 1
    """Rounds between two changes; those without participants count."""

    until: PositiveInt | None = None
    """Last round after which it changes; no last one unless given."""

    rho_min: PositiveFloat | None = None
    """Value at which a penalty stops to fall; no bound unless given."""

    rho_max: PositiveFloat | None = None
    """Value at which a penalty stops to grow; no bound unless given. Gradient steps of
    size ``lr`` need a penalty well below ``2 / lr``."""

    def __post_init__(self) -> None:
        problem = None
        if not 0 < self.growth < inf or self.growth == 1:
            problem = "growth must be a factor above 0 other than 1"
        elif self.every < 1 or (self.until is not None and self.until < self.every):
            problem = "every must be at least 1, and until at least every"
        elif self.growth > 1 and self.rho_min is not None:
            problem = "rho_min has no effect with a growth above 1; leave it out"
        elif self.growth < 1 and self.rho_max is not None:
            problem = "rho_max has no effect with a growth below 1; leave it out"
        if problem is not None:
            msg = f"rho_schedule: {problem}"
            raise ValueError(msg)

    def bounded(self, rho: float) -> float:
        """Return the nearest penalty within the bounds."""
        return min(max(rho, self.rho_min or 0.0), self.rho_max or inf)

    def next_penalty(self, rho: float, round_index: int) -> float:
        """Return the penalty after `round_index` rounds, the last with `rho`."""
        last = inf if self.until is None else self.until
        if not 0 < round_index <= last or round_index % self.every:
            return rho
        return self.bounded(rho * self.growth)


@dataclass(frozen=True, kw_only=True)
class ConsensusADMM(ConsensusUnits):
    """Duals, penalty and server step; a subclass solves the local problems."""

    rho: Penalty = RHO
    r"""Penalty :math:`\rho`, in units of a client's loss (`units`) per squared unit of
    u."""

    residual_balancing: ResidualBalancing | None = None
    """Let the penalty adapt to the residuals; constant unless given."""

    rho_schedule: PenaltySchedule | None = None
    """Let the penalty change by a factor from round to round; constant unless given."""

    def __post_init__(self) -> None:
        convert_mappings(self)
        given = self.changing_penalty()
        if len(given) > 1:
            msg = f"give one of {' and '.join(given)}: both change the penalty"
            raise ValueError(msg)
        for name, rule in given.items():
            if rule.bounded(self.rho) != self.rho:
                msg = f"rho {self.rho:g} is not between rho_min and rho_max of {name}"
                raise ValueError(msg)

    def changing_penalty(self) -> dict[str, ResidualBalancing | PenaltySchedule]:
        """Return the given options by which the penalty changes, by name."""
        options = {
            "residual_balancing": self.residual_balancing,
            "rho_schedule": self.rho_schedule,
        }
        return {name: rule for name, rule in options.items() if rule is not None}

    def new_client(self, shared: Tensor, personal: Tensor) -> ClientState:
        """Return both blocks, a dual of zero, and the state that options need."""
        state = {
            "shared": shared.clone(),
            "personal": personal.clone(),
            "dual": torch.zeros_like(shared),
        }
        if self.adapts_penalty():
            state["rho"] = torch.tensor([self.rho], dtype=torch.float64)
        return state

    def client_step(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> Tensor:
        """Solve, ascend the dual, and return the change of z_i, (1, d) in float64.

        It is weighed as z_i is in the server's mean.
        """
        (u_server,) = broadcast
        before = self.augmented_model(client)
        anchor = self.prox_center(u_server, client)
        self.solve(u_server, anchor, client, problem, self.loss_factor(weight))
        self.update_dual(anchor, client)
        if self.adapts_penalty():
            client["rho"].fill_(self.rho)
        change = self.augmented_model(client) - before
        return change.mul_(self.lagrangian_factor(weight))[None]

    def server_step(self, server: Tensor, total: Tensor, round_: RoundInfo) -> None:
        """Move u to the minimiser of the augmented Lagrangian in it."""
        everyone, _ = self.factor_sums(round_)
        before, after = round_.penalties or (everyone, everyone)
        if after > 0:  # not so where none of the clients has samples, nor a weight
            admm.update_consensus(server[0], total[0], before, after)

    @abstractmethod
    def solve(
        self,
        u_server: Tensor,
        anchor: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> None:
        """Do the local work: update "shared" and "personal" of the client.

        Parameters
        ----------
        u_server : (d,)
            The broadcast u.
        anchor : (d,)
            The point of the round's penalty and dual terms.
        client
            Its state.
        problem
            Its training loss.
        weight
            Factor of the loss in the local problem: 1, or the client's weight.
        """

    def loss_decay(self) -> float:
        """Return the L2 decay of the clients' losses."""
        return 0.0

    def prox_center(self, u_server: Tensor, client: ClientState) -> Tensor:
        """Return the point u of the round's penalty and dual terms, (d,)."""
        return u_server

    def update_dual(self, anchor: Tensor, client: ClientState) -> None:
        """Take the dual step of a round; nothing if `solve` takes it."""

    def augmented_model(self, client: ClientState) -> Tensor:
        r"""Return :math:`(\rho_i u_i + \pi_i)/\rho`, (d,) in float64."""
        share = float(client["rho"]) / self.rho if self.adapts_penalty() else 1.0
        return admm.augmented_model(client["shared"], client["dual"], self.rho, share)

    def penalty_of(self, client: ClientState) -> float:
        r"""Return :math:`\rho_i`, the penalty that the client last worked with."""
        return float(client["rho"]) if self.adapts_penalty() else self.rho

    def admm_penalty(self) -> float:
        """Return the option rho, which a client works with when it next takes part."""
        return self.rho

    def adapts_penalty(self) -> bool:
        """Return whether residuals are balanced, or the penalty has a schedule."""
        return bool(self.changing_penalty())

    def scheduled_penalty(self, round_index: int) -> float | None:
        """Return the penalty after `round_index` rounds, if it has a schedule."""
        if self.rho_schedule is None:
            return None
        return self.rho_schedule.next_penalty(self.rho, round_index)

    def with_penalty(self, penalty: float) -> "ConsensusADMM":
        """Return the same algorithm with another rho."""
        return replace(self, rho=penalty)

    def next_penalty(self, residuals: admm.Residuals, round_index: int) -> float:
        """Return the penalty after `round_index` rounds, given their residuals."""
        balance = self.residual_balancing
        if balance is None or round_index % balance.every:
            return self.rho
        if balance.until is not None and round_index > balance.until:
            return self.rho
        relative = balance.residuals == "relative"
        wanted = admm.balance_penalty(
            self.rho,
            residuals.primal_relative if relative else residuals.primal,
            residuals.dual_relative if relative else residuals.dual,
            ratio=balance.ratio,
            factor=balance.factor,
        )
        return balance.bounded(wanted)

    def lagrangian(
        self, client: ClientState, u_server: Tensor, loss: float, weight: float
    ) -> tuple[float, float]:
        """Return a client's share of the augmented Lagrangian, and Lyapunov's extra.

        Parameters
        ----------
        client
            Its state.
        u_server : (d,)
            The server's u.
        loss
            Its mean training loss at its own blocks.
        weight
            Its weight.
        """
        share = admm.lagrangian_share(
            loss,
            client["shared"],
            client["personal"],
            client["dual"],
            u_server,
            weight=self.loss_factor(weight),
            weight_decay=self.loss_decay(),
            rho=self.penalty_of(client),
        )
        return share * self.lagrangian_factor(weight), 0.0


@dataclass(frozen=True, kw_only=True)
class RelaxedADMM(ConsensusADMM):
    """Consensus ADMM with over-relaxation and one dual step a round, of any length."""

    relaxation: Annotated[float, Gt(0), Lt(2)] = 1.0
    r"""Over-relaxation :math:`\gamma`: local problem and dual are anchored at
    :math:`\gamma u^t + (1-\gamma) u_i` in place of the broadcast :math:`u^t`, with the
    :math:`u_i` of before the round (Boyd et al. 2011, section 3.4.3, in which u is the
    block that is solved for first). Above 1, such as 1.6, often saves rounds; 1 is
    none."""

    dual_step: Annotated[float, Gt(0), Lt(GOLDEN_RATIO)] = 1.0
    r"""Length :math:`\tau` of the dual step,
    :math:`\pi_i \leftarrow \pi_i + \tau\rho (u_i - u)`; below the golden ratio, as in
    the theory (Fazel et al., SIAM J. Matrix Anal. Appl. 34(3), 2013). Duals that come
    from unsolved local problems and old rounds mislead at first; a short step lets them
    grow slowly, to the same end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, limit in (("relaxation", 2.0), ("dual_step", GOLDEN_RATIO)):
            value = getattr(self, name)
            if not 0 < value < limit:
                msg = f"{name} must lie between 0 and {limit:.4g}, got {value}"
                raise ValueError(msg)

    def update_dual(self, anchor: Tensor, client: ClientState) -> None:
        """Take the dual step, of this method's length."""
        length = self.rho * self.dual_step
        admm.dual_ascent_step(client["dual"], client["shared"], anchor, length)

    def prox_center(self, u_server: Tensor, client: ClientState) -> Tensor:
        """Return the broadcast u, relaxed."""
        if self.relaxation == 1:
            return u_server
        return admm.relax(client["shared"], u_server, self.relaxation)
