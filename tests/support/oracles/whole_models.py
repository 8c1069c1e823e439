"""Losses that are quadratics of the whole model, on which whole models are trained."""

from collections import Counter

import numpy as np
import torch

from fedapm_mpi.optim.solver import LocalSolver
from tests.support.oracles.in_memory_federation import UNEVEN
from tests.support.oracles.quadratic import DIM_U

EYE = torch.eye(DIM_U, dtype=torch.float64)
PHASES = ("personal", "shared", "joint")


class Problem:
    """Half x'Hx - b'x of one client; in `client`'s mini-batches b is off by noise.

    An epoch is two batches. A batch is known by its phase, by how often the client
    took part before, and by its place in the phase's stream.
    """

    def __init__(self, hessian, b, client=0, noise=0.0, size_shared=DIM_U):
        self.hessian, self.b, self.client, self.noise = hessian, b, client, noise
        self.point = torch.full((DIM_U,), torch.nan, dtype=torch.float64)
        self.shared, self.personal = self.point[:size_shared], self.point[size_shared:]
        self.buffer = torch.empty_like(self.point)
        self.visits, self.drawn = -1, Counter()
        self.solver = LocalSolver()

    def forget(self):
        self.visits += 1
        self.drawn.clear()
        self.point.fill_(torch.nan)

    def batches(self, phase, work, size):
        assert size == 0
        for _ in range(work.steps or 2 * work.epochs):
            self.drawn[phase] += 1
            yield self.visits, phase, self.drawn[phase] - 1

    def slope(self, visit, phase, place, x):
        slope = self.hessian @ x - self.b
        if self.noise:
            key = [self.client, visit, PHASES.index(phase), place]
            rng = np.random.default_rng(key)
            slope += self.noise * torch.tensor(rng.normal(size=DIM_U))
        return slope

    def gradient(self, part, batch):
        assert part == "both" or len(self.shared) == DIM_U
        return self.buffer.copy_(self.slope(*batch, self.point))


class Lifted(Problem):
    """FLAME's loss f(v) + lam/2 |v - u|^2 of two blocks, as FedAPM sees it."""

    def __init__(self, hessian, b, lam):
        super().__init__(hessian, b)
        self.lam, self.personal = lam, torch.full_like(self.point, torch.nan)

    def gradient(self, part, batch):
        pull = self.lam * (self.personal - self.shared)
        return self.slope(*batch, self.personal) + pull if part == "personal" else -pull


class Losses:
    """The losses of all clients, as `Federation` wants them."""

    def __init__(self, weights=UNEVEN, noise=0.0, lifted=None):
        rng = np.random.default_rng(8)
        self.m, self.noise, self.lifted = len(weights), noise, lifted
        self.weights = torch.tensor(weights, dtype=torch.float64)
        root = torch.tensor(rng.normal(size=(self.m, DIM_U, DIM_U)))
        square = root @ root.mT
        square /= torch.linalg.matrix_norm(square, 2)[:, None, None]
        self.hessian = 0.3 * EYE + 1.2 * square
        self.b = torch.tensor(rng.normal(size=(self.m, DIM_U)))
        self.start_u = torch.tensor(rng.normal(size=DIM_U))
        self.start_v = self.start_u if lifted else self.start_u[:0]

    def problems(self):
        pairs = list(zip(self.hessian, self.b, strict=True))
        if self.lifted:
            return [Lifted(*pair, self.lifted) for pair in pairs]
        return [Problem(*pair, i, self.noise) for i, pair in enumerate(pairs)]

    def prox(self, w):
        """Return every minimiser of f_i + decay/2 |x|^2 + lam/2 |x - w|^2, (m, d)."""
        return torch.linalg.solve(self.hessian + 0.9 * EYE, self.b + 0.8 * w)

    def minimiser(self):
        """Return the minimiser of the weighted sum of f_i + decay/2 |x|^2."""
        mean = (self.weights[:, None, None] * self.hessian).sum(0)
        return torch.linalg.solve(mean + 0.1 * EYE, self.weights @ self.b)

    def envelope_minimiser(self):
        """Return w with sum alpha_i (w - prox_i(w)) = 0, prox_i being affine."""
        offset = self.weights @ self.prox(0 * self.start_u)
        columns = [self.weights @ self.prox(unit) - offset for unit in EYE]
        return torch.linalg.solve(EYE - torch.stack(columns, dim=1), offset)
