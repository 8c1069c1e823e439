r"""The algebra of FedAPM on flat vectors: no model, data, file or rank in sight.

The problem, over m clients with a personal block v_i and a shared block u, is

.. math:: \min_{v_i, u_i, u} \sum_i \alpha_i f_i(v_i, u_i)
          \quad\text{s.t.}\quad u_i = u,

and its augmented Lagrangian (FedAPM, arXiv 2506.04672, section 3) the sum over i of

.. math:: \alpha_i f_i(v_i, u_i) + \langle \pi_i, u_i - u \rangle
          + \tfrac\rho2 \|u_i - u\|^2 .

Every dual in this package is **unscaled**: :math:`\pi_i` is in units of the loss per
unit of u, and a change of :math:`\rho` leaves it alone.
"""

from math import sqrt

import torch
from torch import Tensor


def vote(u: Tensor, dual: Tensor, rho: float) -> Tensor:
    r"""Return :math:`z_i = u_i + \pi_i/\rho`, whose mean over all clients is u.

    The result is in double precision, so that the difference of two votes of float32
    states is exact to far below float32 rounding.

    Parameters
    ----------
    u : (d,)
        The client's copy of the shared block.
    dual : (d,)
        Its unscaled dual.
    rho
        Penalty, in units of the loss per squared unit of u.
    """
    return u.double().add(dual.double(), alpha=1 / rho)


def ascend_dual(dual: Tensor, u: Tensor, u_server: Tensor, rho: float) -> None:
    r"""Update in place :math:`\pi_i \leftarrow \pi_i + \rho (u_i - u^t)`.

    `u_server` is the u that was broadcast at the start of the round, not the next.
    """
    dual.add_(u - u_server, alpha=rho)


def personal_gradient(
    gradient: Tensor,
    v: Tensor,
    v_start: Tensor,
    *,
    weight: float,
    weight_decay: float,
    sigma: float,
) -> Tensor:
    r"""Turn :math:`\nabla_v f_i` into the gradient of the proximal v problem.

    .. math:: \alpha_i (\nabla_v f_i + \mu v) + \sigma (v - v^t)

    Parameters
    ----------
    gradient : (d,)
        Gradient of the loss in v; overwritten by the result.
    v, v_start : (d,)
        The personal block now and at the start of the round.
    weight
        Client weight :math:`\alpha_i`.
    weight_decay
        L2 decay :math:`\mu`; inside the weight, as in the authors' code.
    sigma
        Proximal coefficient; outside the weight.
    """
    gradient.add_(v, alpha=weight_decay).mul_(weight)
    return gradient.add_(v - v_start, alpha=sigma)


def shared_gradient(
    gradient: Tensor,
    u: Tensor,
    u_server: Tensor,
    dual: Tensor,
    *,
    weight: float,
    weight_decay: float,
    rho: float,
) -> Tensor:
    r"""Turn :math:`\nabla_u f_i` into the augmented Lagrangian's gradient in u.

    .. math:: \alpha_i (\nabla_u f_i + \mu u) + \pi_i + \rho (u - u^t)

    `gradient` is overwritten by the result; the dual is unscaled.
    """
    gradient.add_(u, alpha=weight_decay).mul_(weight)
    return gradient.add_(dual).add_(u - u_server, alpha=rho)


def squared_distance(a: Tensor, b: Tensor) -> float:
    r"""Return :math:`\|a - b\|^2`, summed in double precision."""
    gap = a.double() - b.double()
    return float(torch.dot(gap, gap))


def primal_residual(sum_squared_gaps: float) -> float:
    r"""Return :math:`(\sum_i \|u_i - u\|^2)^{1/2}`, given the sum over all clients."""
    return sqrt(sum_squared_gaps)


def dual_residual(u: Tensor, u_before: Tensor, rho: float, num_clients: int) -> float:
    r"""Return :math:`\rho \sqrt m \, \|u^{t+1} - u^t\|` (Boyd et al. 2011, 3.3)."""
    return rho * sqrt(num_clients * squared_distance(u, u_before))
