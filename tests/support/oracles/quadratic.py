r"""A convex test problem whose every answer is known.

Client i of m has the loss

.. math:: f_i(v, u) = \tfrac12 \|A_i v + B_i u - c_i\|^2
          + \tfrac{\kappa}{2} (\|v\|^2 + \|u\|^2), \qquad \kappa = 0.05,

so the minimiser of :math:`\sum_i \alpha_i f_i(v_i, u)` over all v_i and u solves one
linear system. Everything here is float64 and written from the formulas of FedAPM
(arXiv 2506.04672); of the package it knows the classes `LocalBudget` and
`LocalSolver` alone.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedapm_mpi.algorithms.base import LocalBudget
from fedapm_mpi.optim.solver import LocalSolver

DIM_V, DIM_U, ROWS = 3, 4, 5
KAPPA = 0.05


class Quadratic:
    """The losses of all clients, their exact gradients and their joint minimiser.

    Parameters
    ----------
    weights
        The m weights alpha_i of the clients in the objective.
    seed
        Of the matrices A_i (ROWS, DIM_V), B_i (ROWS, DIM_U) and vectors c_i (ROWS,).
    l_v, l_u
        The largest eigenvalue over all clients of the Hessian in v, and in u.
    """

    def __init__(
        self,
        weights: Sequence[float] = (1 / 6,) * 6,
        *,
        seed: int = 140,
        l_v: float = 1.79,
        l_u: float = 2.62,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self.m = m = len(weights)
        a = torch.tensor(rng.normal(size=(m, ROWS, DIM_V)))
        b = torch.tensor(rng.normal(size=(m, ROWS, DIM_U)))
        self.c = torch.tensor(rng.normal(size=(m, ROWS)))
        self.a = a * ((l_v - KAPPA) ** 0.5 / _norm(a))
        self.b = b * ((l_u - KAPPA) ** 0.5 / _norm(b))
        self.start_u = torch.tensor(rng.normal(size=DIM_U))
        self.start_v = torch.tensor(rng.normal(size=DIM_V))
        self.l_v = _norm(self.a) ** 2 + KAPPA
        self.l_u = _norm(self.b) ** 2 + KAPPA
        self.l_uv = _norm(self.b.mT @ self.a)
        self._minimiser: tuple[Tensor, Tensor] | None = None

    def loss(self, v: Tensor, u: Tensor) -> Tensor:
        """Return every f_i(v_i, u_i), shape (m,); v is (m, DIM_V), u (m, DIM_U)."""
        penalty = (v**2).sum(-1) + (u**2).sum(-1)
        return 0.5 * (self._residual(v, u) ** 2).sum(-1) + 0.5 * KAPPA * penalty

    def gradient_u(self, v: Tensor, u: Tensor) -> Tensor:
        """Return every gradient of f_i in u at (v_i, u_i), shape (m, DIM_U)."""
        return _apply(self.b.mT, self._residual(v, u)) + KAPPA * u

    def gradient_v(self, v: Tensor, u: Tensor) -> Tensor:
        """Return every gradient of f_i in v at (v_i, u_i), shape (m, DIM_V)."""
        return _apply(self.a.mT, self._residual(v, u)) + KAPPA * v

    def minimiser(self) -> tuple[Tensor, Tensor]:
        """Return the joint minimiser V (m, DIM_V), u (DIM_U,), by one linear solve.

        Its optimality conditions are, for each i, grad_v f_i = 0 and, weighted by
        alpha_i and summed, grad_u f_i = 0.
        """
        if self._minimiser is None:
            self._minimiser = self._solved()
        return self._minimiser

    def _solved(self) -> tuple[Tensor, Tensor]:
        m, cut = self.m, self.m * DIM_V
        alpha = self.weights
        matrix = torch.zeros(cut + DIM_U, cut + DIM_U, dtype=torch.float64)
        target = torch.zeros(cut + DIM_U, dtype=torch.float64)
        for i in range(m):
            a, b, c = self.a[i], self.b[i], self.c[i]
            at = slice(i * DIM_V, (i + 1) * DIM_V)
            matrix[at, at] = alpha[i] * (a.T @ a + KAPPA * _eye(DIM_V))
            matrix[at, cut:] = alpha[i] * a.T @ b
            matrix[cut:, at] = alpha[i] * b.T @ a
            matrix[cut:, cut:] += alpha[i] * (b.T @ b + KAPPA * _eye(DIM_U))
            target[at] = alpha[i] * a.T @ c
            target[cut:] += alpha[i] * b.T @ c
        solution = torch.linalg.solve(matrix, target)
        return solution[:cut].reshape(m, DIM_V), solution[cut:]

    def lagrangian(
        self, v: Tensor, u: Tensor, dual: Tensor, consensus: Tensor, rho: float
    ) -> float:
        """Return sum_i alpha_i f_i + <pi_i, u_i - u> + rho/2 |u_i - u|^2."""
        gap = u - consensus
        coupling = (dual * gap).sum() + 0.5 * rho * (gap**2).sum()
        return float((self.weights * self.loss(v, u)).sum() + coupling)

    def conditions(self) -> tuple[float, float]:
        """Return the smallest rho and sigma for which the theory promises descent."""
        alpha = float(self.weights.max())
        rho = 3 * alpha * max(self.l_u, self.l_uv)
        return rho, max(8 * rho / 15, alpha * self.l_v)

    def problems(self) -> list["QuadraticProblem"]:
        """Return the local problem of each client."""
        return [
            QuadraticProblem(a, b, c)
            for a, b, c in zip(self.a, self.b, self.c, strict=True)
        ]

    def _residual(self, v: Tensor, u: Tensor) -> Tensor:
        return _apply(self.a, v) + _apply(self.b, u) - self.c


class QuadraticProblem:
    """One f_i as an algorithm sees it: two live vectors and gradients at them.

    An epoch is one batch, the whole loss. Gradients come in one buffer that every
    call overwrites, and `forget` spoils the vectors, so an algorithm that keeps
    either for longer than the protocol allows computes NaN or nonsense.
    """

    def __init__(self, a: Tensor, b: Tensor, c: Tensor) -> None:
        both = torch.cat([b, a], dim=1)
        self._hessian = both.T @ both + KAPPA * _eye(DIM_U + DIM_V)
        self._offset = -(both.T @ c)
        self._point = torch.full((DIM_U + DIM_V,), torch.nan, dtype=torch.float64)
        self._buffer = torch.empty_like(self._point)
        self.shared = self._point[:DIM_U]
        self.personal = self._point[DIM_U:]
        self.noise = 0.0
        """Standard deviation of what `gradient` adds to the shared part's entries."""
        self._generator = torch.Generator().manual_seed(1)
        self.solver = LocalSolver()
        self._parts = {
            "shared": slice(0, DIM_U),
            "personal": slice(DIM_U, None),
            "both": slice(None),
        }

    def forget(self) -> None:
        """Spoil the live vectors, as another client's turn would."""
        self._point.fill_(torch.nan)
        self._buffer.fill_(torch.nan)

    def batches(self, phase: str, work: LocalBudget, size: int) -> Iterator[None]:
        """Yield the full batch once for each epoch or step."""
        if phase not in ("shared", "personal", "joint") or size != 0:
            msg = f"unknown phase {phase!r} or batch size {size}"
            raise ValueError(msg)
        times = work.epochs or work.steps or work.max_epochs or 0
        for _ in range(times):
            yield None

    def num_batches(self, work: LocalBudget, size: int) -> int:
        """Return how many batches there are at most."""
        return work.epochs or work.steps or work.max_epochs or 0

    def gradient(self, part: str, batch: Any) -> Tensor:
        """Return the gradient in one part or in both, shared part first."""
        if batch is not None:
            msg = "gradient wants a batch that `batches` gave"
            raise ValueError(msg)
        gradient = self.full_gradient(part)
        if self.noise and part == "shared":
            noise = torch.randn(DIM_U, generator=self._generator, dtype=torch.float64)
            gradient += self.noise * noise
        return gradient

    def full_gradient(self, part: str) -> Tensor:
        """Return the same without the noise: there is one batch."""
        at = self._parts[part]
        buffer = self._buffer[at]
        return torch.addmv(self._offset[at], self._hessian[at], self._point, out=buffer)


def _apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    return (matrices @ vectors.unsqueeze(-1)).squeeze(-1)


def _norm(matrices: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrices, 2).max())


def _eye(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)
