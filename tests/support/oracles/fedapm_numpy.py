"""FedAPM a third time, in numpy on the quadratic, with most of its options.

The server forgets everything between rounds and averages all clients again.
"""

import numpy as np

from fedapm_mpi.algorithms.base import LocalBudget
from fedapm_mpi.algorithms.fedapm import FedAPM
from tests.support.oracles.in_memory_federation import (
    UNEVEN,
    Federation,
    start_at_random,
)
from tests.support.oracles.quadratic import KAPPA, Quadratic


class Literal:
    """FedAPM written from its formulas, one client and one vector at a time."""

    def __init__(self, federation, *, lr_u, lr_v, steps, relaxation=1.0, **options):
        algorithm, quadratic = federation.algorithm, federation.quadratic
        self.rho, self.sigma = algorithm.rho, algorithm.sigma
        self.lr_u, self.lr_v, self.steps = lr_u, lr_v, steps
        self.joint = options.pop("joint", True)
        self.decay = options.pop("decay", 0.0)
        self.local_start = options.pop("local_start", False)
        self.weigh_v = options.pop("weigh_v", True)
        self.tau = options.pop("dual_step", 1.0)
        assert not options
        self.gamma = relaxation
        self.alpha = quadratic.weights.numpy()
        self.a, self.b, self.c = (
            x.numpy() for x in (quadratic.a, quadratic.b, quadratic.c)
        )
        self.v, self.u, self.pi = (
            federation.stack(name).numpy().copy()
            for name in ("personal", "shared", "dual")
        )

    @property
    def server(self):
        return (self.u + self.pi / self.rho).mean(0)

    def slope_u(self, i, v, u, anchor):
        residual = self.a[i] @ v + self.b[i] @ u - self.c[i]
        loss = self.b[i].T @ residual + KAPPA * u + self.decay * u
        return self.alpha[i] * loss + self.pi[i] + self.rho * (u - anchor)

    def slope_v(self, i, v, u):
        residual = self.a[i] @ v + self.b[i] @ u - self.c[i]
        loss = self.a[i].T @ residual + KAPPA * v + self.decay * v
        weight = self.alpha[i] if self.weigh_v else 1.0
        return weight * loss + self.sigma * (v - self.v[i])

    def round(self, participants):
        sent = self.server
        for i in participants:
            u = self.u[i] if self.local_start else sent
            v = self.v[i]
            anchor = self.gamma * sent + (1 - self.gamma) * self.u[i]
            if self.joint:
                for _ in range(self.steps):
                    du, dv = self.slope_u(i, v, u, anchor), self.slope_v(i, v, u)
                    u, v = u - self.lr_u * du, v - self.lr_v * dv
            else:
                for _ in range(self.steps):
                    v = v - self.lr_v * self.slope_v(i, v, sent)
                for _ in range(self.steps):
                    u = u - self.lr_u * self.slope_u(i, v, u, anchor)
            self.u[i], self.v[i] = u, v
            self.pi[i] = self.pi[i] + self.tau * self.rho * (u - anchor)


def joint(rho=0.1, sigma=0.01, step=0.5, work=5, **options):
    """FedAPM that steps both blocks together, far from solving its local problem."""
    given = {"units": "weighted", "lr_personal": step, "lr_shared": step} | options
    return FedAPM(
        rho=rho,
        sigma=sigma,
        batch_size=0,
        block_order="joint",
        joint_work=LocalBudget(epochs=work),
        **given,
    )


def start(algorithm, weights=UNEVEN, start_at=start_at_random):
    """Return a federation whose votes agree with the server."""
    federation = Federation(algorithm, Quadratic(weights))
    if start_at is start_at_random:
        start_at_random(federation, algorithm.rho)
    else:
        start_at(federation)
    return federation


def assert_agrees(federation, literal):
    pairs = {"shared": literal.u, "personal": literal.v, "dual": literal.pi}
    for name, expected in pairs.items():
        found = federation.stack(name).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(
        federation.consensus.numpy(), literal.server, rtol=0, atol=1e-11
    )
