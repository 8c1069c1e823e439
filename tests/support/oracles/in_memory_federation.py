"""A server and its clients in one process, for tests on quadratics."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedapm_mpi.algorithms.base import LocalBudget, RoundInfo
from fedapm_mpi.algorithms.fedalt import FedAlt
from fedapm_mpi.algorithms.fedapm import FedAPM
from fedapm_mpi.optim.admm import Residuals
from fedapm_mpi.optim.solver import LocalSolver, SolverRules
from tests.support.oracles.quadratic import DIM_U, KAPPA, Quadratic

UNEVEN = (0.05, 0.1, 0.1, 0.2, 0.25, 0.3)


class Federation:
    """A server and its clients in one process: the round loop, spelt out.

    Attributes
    ----------
    server : (rows + server_memory_rows, DIM_U) Tensor
        What the server holds; row 0 is the shared model.
    clients : list of dict
        The state of each client, as the algorithm keeps it.
    increment : dict
        What each participant of the last round sent.
    penalties : (m,) Tensor
        The penalty that each client last worked with, for algorithms that have one.
    change : (DIM_U,) Tensor
        By how much the last round moved the shared model.
    solver : SolverRules or None
        How clients step; `None` leaves each problem's solver as it is.
    step_factor : float
        Factor of the step size that the server's step gets.
    """

    def __init__(self, algorithm: Any, quadratic: Quadratic) -> None:
        self.algorithm = algorithm
        self.quadratic = quadratic
        self.problems = quadratic.problems()
        height = algorithm.rows + algorithm.server_memory_rows()
        self.server = torch.zeros(height, DIM_U, dtype=torch.float64)
        self.server[0] = quadratic.start_u
        self.clients = [
            algorithm.new_client(quadratic.start_u.clone(), quadratic.start_v.clone())
            for _ in self.problems
        ]
        self.index = 0
        self.solver: SolverRules | None = None
        self.step_factor = 1.0
        self.increment: dict[int, Tensor] = {}
        self.change = torch.zeros(DIM_U, dtype=torch.float64)
        self.penalties = torch.full(
            (quadratic.m,), getattr(algorithm, "rho", torch.nan), dtype=torch.float64
        )

    @property
    def consensus(self) -> Tensor:
        """The server's model, (DIM_U,)."""
        return self.server[0]

    @property
    def factors(self) -> Tensor:
        """The factor of each client's dual and penalty in the Lagrangian, (m,)."""
        own = getattr(self.algorithm, "units", "weighted") == "client"
        return self.quadratic.weights if own else torch.ones(self.quadratic.m).double()

    def stack(self, name: str) -> Tensor:
        """Return one entry of every client's state, (m, ...)."""
        return torch.stack([client[name] for client in self.clients])

    def round(self, participants: Sequence[int]) -> None:
        """Broadcast, let each participant work, add up, and step at the server."""
        self.increment = {}
        rows = self.algorithm.rows
        total = torch.zeros_like(self.server[:rows])
        broadcast = self.server[:rows].clone()
        weights = [float(weight) for weight in self.quadratic.weights]
        for i in participants:
            self.problems[i].forget()
            if self.solver is not None:
                self.problems[i].solver = LocalSolver(self.solver, self.index)
            self.increment[i] = self.algorithm.client_step(
                broadcast, self.clients[i], self.problems[i], weights[i]
            ).clone()
            total += self.increment[i]
        if not torch.equal(broadcast, self.server[:rows]):
            msg = "a client changed what all of them were sent"
            raise AssertionError(msg)
        weight_sum = sum(weights[i] for i in participants)
        facts = RoundInfo(
            self.index,
            self.quadratic.m,
            len(participants),
            weight_sum,
            self._use_penalty(participants),
            step_factor=self.step_factor,
        )
        before = self.consensus.clone()
        self.algorithm.server_step(self.server, total, facts)
        self.change = self.consensus - before
        self.index += 1

    def _use_penalty(self, participants: Sequence[int]) -> tuple[float, float] | None:
        rho = getattr(self.algorithm, "rho", None)
        if rho is None:
            return None
        before = float(self.factors @ self.penalties) / rho
        self.penalties[list(participants)] = rho
        return before, float(self.factors @ self.penalties) / rho

    def change_penalty(self, rho: float) -> None:
        """Let the rounds from now on be with another penalty."""
        self.algorithm = replace(self.algorithm, rho=rho)

    def adapt(self) -> float:
        """Let the algorithm choose the next round's penalty, and return it."""
        rho = self.algorithm.scheduled_penalty(self.index)
        if rho is None:
            rho = self.algorithm.next_penalty(self.residuals(), self.index)
        self.change_penalty(rho)
        return self.algorithm.rho

    def residuals(self) -> Residuals:
        """Return the last round's, each from its formula."""
        u, dual = self.stack("shared"), self.stack("dual")
        factors = self.factors / self.factors.mean()
        rows = factors[:, None]
        return Residuals(
            primal=float((rows * (u - self.consensus) ** 2).sum().sqrt()),
            dual=float((factors.sqrt() * self.penalties).norm() * self.change.norm()),
            scale_primal=max(
                float((rows * u**2).sum().sqrt()),
                float((self.quadratic.m * (self.consensus**2).sum()).sqrt()),
            ),
            scale_dual=float((rows * dual**2).sum().sqrt()),
        )

    def rounds(
        self,
        number: int,
        participation: float = 1.0,
        seed: int = 0,
        near: float | None = None,
    ) -> Iterator[list[int]]:
        """Run `number` rounds; yield the participants after each.

        With `near`, fewer where the joint minimiser is a hundredth of it away before:
        dual variables and gradients, which come to rest a little later, are as near as
        `near` then.
        """
        rng = np.random.default_rng(seed)
        size = max(1, round(participation * self.quadratic.m))
        for t in range(number):
            if near is not None and t % 10 == 0 and self.error() < near / 100:
                return
            participants = sorted(rng.permutation(self.quadratic.m)[:size].tolist())
            self.round(participants)
            yield participants

    def run(
        self,
        number: int,
        participation: float = 1.0,
        seed: int = 0,
        near: float | None = None,
    ) -> None:
        """Run `number` rounds, or until the minimiser is `near`: see `rounds`."""
        for _ in self.rounds(number, participation, seed, near):
            pass

    def error(self) -> float:
        """Return the distance of (V, u) from the joint minimiser."""
        v, u = self.quadratic.minimiser()
        squared = ((self.stack("personal") - v) ** 2).sum()
        return float((squared + ((self.consensus - u) ** 2).sum()).sqrt())


def descending(rho=0.1, sigma=0.01, step=0.5, work=5, **options):
    """FedAPM with a few gradient steps, far from solving its local problems."""
    return FedAPM(
        rho=rho,
        sigma=sigma,
        lr_personal=step,
        lr_shared=step,
        batch_size=0,
        personal_work=LocalBudget(epochs=work),
        shared_work=LocalBudget(epochs=work),
        **{"units": "weighted"} | options,
    )


def best_step(alpha, largest, prox):
    """Return the step of the fastest gradient descent on alpha f + prox/2 |x|^2."""
    return 2 / (alpha * (largest + KAPPA) + 2 * prox)


def solving(quadratic, rho, sigma, steps=30, **options):
    """FedAPM with enough gradient steps that its local problems are solved.

    For rho and sigma as large as the theory asks, each step divides the error by at
    least five, so that thirty leave nothing but rounding.
    """
    units = options.get("units", "weighted")
    alpha = float(quadratic.weights.max()) if units == "weighted" else 1.0
    return FedAPM(
        rho=rho,
        sigma=sigma,
        lr_personal=best_step(alpha, quadratic.l_v, sigma),
        lr_shared=best_step(alpha, quadratic.l_u, rho),
        batch_size=0,
        **{
            "units": units,
            "personal_work": LocalBudget(steps=steps),
            "shared_work": LocalBudget(steps=steps),
        }
        | options,
    )


def start_at_random(federation, rho):
    """Give each client a state of its own, and the server the mean of their votes."""
    generator = torch.Generator().manual_seed(3)
    for client in federation.clients:
        for name in ("shared", "personal", "dual"):
            client[name].normal_(generator=generator)
    federation.server[0] = mean_vote(federation, rho)


def start_at_optimum(federation):
    """Put everything where the paper says it comes to rest."""
    quadratic = federation.quadratic
    v, u = quadratic.minimiser()
    federation.server[0] = u
    slopes = quadratic.gradient_u(v, u.expand(quadratic.m, -1))
    for i, client in enumerate(federation.clients):
        client["shared"].copy_(u)
        client["personal"].copy_(v[i])
        client["dual"].copy_(-quadratic.weights[i] * slopes[i])


def mean_vote(federation, rho) -> Tensor:
    return (federation.stack("shared") + federation.stack("dual") / rho).mean(0)


def lagrangian(federation, rho) -> float:
    v, u, dual = (federation.stack(name) for name in ("personal", "shared", "dual"))
    return federation.quadratic.lagrangian(v, u, dual, federation.consensus, rho)


def slopes_u(federation) -> Tensor:
    """Return alpha_i grad_u f_i at every client's own (v_i, u_i)."""
    quadratic = federation.quadratic
    slopes = quadratic.gradient_u(
        federation.stack("personal"), federation.stack("shared")
    )
    return quadratic.weights[:, None] * slopes


def snapshot(federation):
    return [
        {name: value.clone() for name, value in client.items()}
        for client in federation.clients
    ]


def increases(values, slack=1e-13):
    return sum(not b <= a + slack for a, b in pairwise(values))  # NaN counts too


def alternating(step, work, **options):
    """FedAlt with the step on the alpha-scaled loss, as FedAPM takes it."""
    return FedAlt(
        lr_personal=step / 6,
        lr_shared=step / 6,
        batch_size=0,
        personal_work=LocalBudget(epochs=work),
        shared_work=LocalBudget(epochs=work),
        **options,
    )
