"""Least squares in mini-batches: every parameter shared, every step known in advance.

Client i's loss is the mean over its n_i samples (x, y) of (x'w - y)^2 / 2, and that of
a client without samples is zero. Of the package this knows the classes `LocalBudget`
and `LocalSolver` alone.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedapm_mpi.algorithms.base import LocalBudget
from fedapm_mpi.optim.solver import LocalSolver
from tests.support.oracles.quadratic import DIM_U

SIZES = (4, 1, 0, 3, 7, 2)
EMPTY = 2
"""The client that has no samples."""

Vector = NDArray[np.float64]


class LeastSquares:
    """All clients' samples; stands in for `Quadratic` in a `Federation`."""

    def __init__(
        self,
        weights: Sequence[float],
        sizes: Sequence[int] = SIZES,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        rng = np.random.default_rng(8)
        self.x = [rng.normal(size=(n, DIM_U)) / 2 for n in sizes]
        self.y = [rng.normal(size=n) for n in sizes]
        self.m, self.alpha = len(sizes), np.array(weights)
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self.start_u = torch.tensor(rng.normal(size=DIM_U), dtype=dtype)
        self.start_v = torch.zeros(0, dtype=dtype)

    def problems(self) -> list["Problem"]:
        """Return the local problem of each client."""
        pairs = zip(self.x, self.y, strict=True)
        return [Problem(x, y, self.start_u.dtype) for x, y in pairs]

    def gradient(
        self, i: int, w: Vector, decay: float = 0.0, rows: Any = slice(None)
    ) -> Vector:
        """Return the gradient of client i's loss, or of a batch's, with L2 decay."""
        x, y = self.x[i][rows], self.y[i][rows]
        return x.T @ (x @ w - y) / len(y) + decay * w if len(y) else np.zeros(DIM_U)

    def hessian(self, i: int, decay: float) -> Vector:
        """Return the Hessian of client i's loss with L2 decay."""
        x = self.x[i]
        return x.T @ x / len(x) + decay * np.eye(DIM_U) if len(x) else 0 * np.eye(DIM_U)

    def weighted(self, term: Callable[[int], Vector]) -> Vector:
        """Return the weighted sum over all clients."""
        return sum(self.alpha[i] * term(i) for i in range(self.m))

    def minimiser(self, decay: float) -> Vector:
        """Return the minimiser of the weighted sum of losses with L2 decay."""
        origin = np.zeros(DIM_U)
        return np.linalg.solve(
            self.weighted(lambda i: self.hessian(i, decay)),
            self.weighted(lambda i: -self.gradient(i, origin)),
        )

    def descend(
        self,
        i: int,
        w: Vector,
        push: Callable[[Vector], Vector],
        *,
        lr: float,
        batch_size: int,
        work: LocalBudget,
        weight_decay: float = 0.0,
    ) -> tuple[Vector, int]:
        """Return the end of client i's SGD from w, and the number of steps to it.

        `push` tells what is added to the gradient.
        """
        batches = order(len(self.y[i]), work, batch_size)
        for rows in batches:
            w = w - lr * (self.gradient(i, w, weight_decay, rows) + push(w))
        return w, len(batches)


class Problem:
    """One client's loss as an algorithm sees it; see `QuadraticProblem`."""

    def __init__(self, x: Vector, y: Vector, dtype: torch.dtype) -> None:
        self._x, self._y = (torch.tensor(part, dtype=dtype) for part in (x, y))
        self.shared = torch.full((DIM_U,), torch.nan, dtype=dtype)
        self.personal = torch.zeros(0, dtype=dtype)
        self._buffer = torch.zeros(DIM_U, dtype=dtype)
        self.solver = LocalSolver()

    def forget(self) -> None:
        """Spoil the live vectors, as another client's turn would."""
        self.shared.fill_(torch.nan)
        self._buffer.fill_(torch.nan)

    def batches(self, phase: str, work: LocalBudget, size: int) -> Iterator[Any]:
        """Yield the rows of each batch."""
        yield from order(len(self._y), work, size)

    def gradient(self, part: str, batch: Any) -> Tensor:
        """Return the gradient of the batch's mean loss."""
        if part == "personal":
            return self.personal
        x, y = self._x[batch], self._y[batch]
        return self._buffer.copy_(x.T @ (x @ self.shared - y) / len(y))

    def full_gradient(self, part: str) -> Tensor:
        """Return that over all samples; NaN if there are none."""
        return self.gradient(part, slice(None))


def order(n: int, work: LocalBudget, size: int) -> list[NDArray[np.int64]]:
    """Return the batches of one phase: each epoch begins one sample later."""
    batches: list[NDArray[np.int64]] = []
    epoch = 0
    while n and (epoch < work.epochs if work.epochs else len(batches) < work.steps):
        rows = np.roll(np.arange(n), -epoch)
        batches += np.split(rows, range(size or n, n, size or n))
        epoch += 1
    return batches[: work.steps]
