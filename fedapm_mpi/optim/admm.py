r"""The algebra of consensus ADMM on flat vectors.

The problem, over m clients with a personal block v_i and a shared block u, is

.. math:: \min_{v_i, u_i, u} \sum_i \alpha_i f_i(v_i, u_i)
          \quad\text{s.t.}\quad u_i = u,

and its augmented Lagrangian (FedAPM, arXiv 2506.04672, section 3) the sum over i of

.. math:: \alpha_i f_i(v_i, u_i) + \langle \pi_i, u_i - u \rangle
          + \tfrac\rho2 \|u_i - u\|^2 .

Every dual in this package is **unscaled**: :math:`\pi_i` is in units of the loss per
unit of u, and a change of :math:`\rho` leaves it alone. The loss of a method may also
be a client's own, see `algorithms._units`: a client's term is then
:math:`f_i + \langle \pi_i, u_i - u \rangle + \tfrac\rho2 \|u_i - u\|^2`, which is
:math:`\alpha_i = 1` below, and counts :math:`\alpha_i` times in the sum.
"""

from collections.abc import Iterable
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from fedapm_mpi.optim.hooks import elementwise


def augmented_model(u: Tensor, dual: Tensor, rho: float, share: float = 1.0) -> Tensor:
    r"""Return :math:`z_i = u_i + \pi_i/\rho`, whose mean over all clients is u.

    The result is in double precision, so that the difference of two results of
    float32 states is exact to far below float32 rounding.

    Parameters
    ----------
    u : (d,)
        The client's copy of the shared block.
    dual : (d,)
        Its unscaled dual.
    rho
        Penalty, in units of the loss per squared unit of u.
    share
        Factor of u_i: :math:`\rho_i/\rho` where the client's own penalty is another.
    """
    return u.double().mul(share).add(dual.double(), alpha=1 / rho)


def update_consensus(u: Tensor, total: Tensor, before: float, after: float) -> None:
    r"""Move the server's u in place by the sum of the participants' changes of z_i.

    u is kept at :math:`\sum_i z_i / \sum_i \rho_i`, where
    :math:`z_i = \rho_i u_i + \pi_i`, all in units of the present :math:`\rho`; both
    sums have the clients' weights if duals and penalties are of their own losses.

    Parameters
    ----------
    u : (d,)
        The server's shared block, float64.
    total : (d,)
        Sum of the changes of :math:`z_i/\rho`.
    before, after
        :math:`\sum_i \rho_i / \rho` before and after the round; m if all are equal, or
        the sum of all weights.
    """
    change = total if before == after else total - (after - before) * u
    u.add_(change, alpha=1 / after)


def relax(u: Tensor, u_server: Tensor, relaxation: float) -> Tensor:
    r"""Return :math:`\gamma u^t + (1-\gamma) u_i` (Boyd et al. 2011, 3.4.3)."""
    return torch.lerp(u, u_server, relaxation)


def dual_ascent_step(dual: Tensor, u: Tensor, u_server: Tensor, rho: float) -> None:
    r"""Update in place :math:`\pi_i \leftarrow \pi_i + \rho (u_i - u^t)`.

    `u_server` is the u that was broadcast at the start of the round, not the next (or
    its relaxation).
    """
    dual.add_(u - u_server, alpha=rho)


@elementwise
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
        Factor of the loss: client weight :math:`\alpha_i`, or 1.
    weight_decay
        L2 decay :math:`\mu`; inside the weight, as in the authors' code.
    sigma
        Proximal coefficient; outside the weight.
    """
    gradient.add_(v, alpha=weight_decay).mul_(weight)
    return gradient.add_(v - v_start, alpha=sigma)


@elementwise
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


def dual_residual(sections: Iterable[tuple[Tensor, Tensor]]) -> float:
    r"""Return :math:`(\sum_i \rho_i^2)^{1/2}\,\|u^{t+1} - u^t\|`.

    Where all m penalties are equal, this is :math:`\rho\sqrt m\,\|u^{t+1} - u^t\|`
    (Boyd et al. 2011, section 3.3). Where some clients hold only some sections of u,
    each section counts with the penalties of its holders.

    Parameters
    ----------
    sections
        Of each section of the server's u its change in the round, (d,), and the
        penalty that each client which holds it last worked with, (m,).
    """
    return sqrt(sum(dot(p, p) * dot(change, change) for change, p in sections))


def dot(a: Tensor, b: Tensor) -> float:
    """Return the inner product of two vectors, summed in double precision."""
    return float(torch.dot(a.double(), b.double()))


class Residuals(NamedTuple):
    r"""Primal and dual residual, with the scales of their relative forms.

    Absolute forms (Boyd et al. 2011, section 3.3; FedAPM's u is one block):
    :math:`(\sum_i \|u_i - u\|^2)^{1/2}` and
    :math:`(\sum_i \rho_i^2)^{1/2} \|u^{t+1} - u^t\|`, which is
    :math:`\rho\sqrt m\,\|u^{t+1}-u^t\|` where all penalties are equal.
    """

    primal: float
    dual: float
    scale_primal: float
    r""":math:`\max\{(\sum_i \|u_i\|^2)^{1/2}, \sqrt m \|u\|\}`."""

    scale_dual: float
    r""":math:`(\sum_i \|\pi_i\|^2)^{1/2}`."""

    @property
    def primal_relative(self) -> float:
        """The primal residual over its scale, 0 over 0 being 0."""
        return _ratio(self.primal, self.scale_primal)

    @property
    def dual_relative(self) -> float:
        """The dual residual over its scale, 0 over 0 being 0."""
        return _ratio(self.dual, self.scale_dual)

    def within(self, absolute: float, relative: float, entries: float) -> bool:
        r"""Return whether both are below the textbook tolerances.

        Parameters
        ----------
        absolute, relative
            Tolerances :math:`\epsilon^{abs}` and :math:`\epsilon^{rel}`.
        entries
            Entries of all clients' copies together, m d, each counted as often as its
            client is in the residuals.
        """
        floor = sqrt(entries) * absolute
        return (
            self.primal <= floor + relative * self.scale_primal
            and self.dual <= floor + relative * self.scale_dual
        )


def balance_penalty(
    rho: float, primal: float, dual: float, *, ratio: float, factor: float
) -> float:
    """Return the penalty that balances two residuals.

    A larger penalty makes the primal residual smaller and the dual one larger (Boyd et
    al. 2011, equation 3.13). Unscaled duals stay as they are.
    """
    if primal > ratio * dual:
        return rho * factor
    if dual > ratio * primal:
        return rho / factor
    return rho


def lagrangian_share(
    loss: float,
    u: Tensor,
    v: Tensor,
    dual: Tensor,
    u_server: Tensor,
    *,
    weight: float,
    weight_decay: float,
    rho: float,
) -> float:
    r"""Return one client's term of the augmented Lagrangian.

    .. math:: \alpha_i \bigl(f_i + \tfrac\mu2 (\|u_i\|^2 + \|v_i\|^2)\bigr)
              + \langle \pi_i, u_i - u \rangle + \tfrac\rho2 \|u_i - u\|^2
    """
    gap = u.double() - u_server.double()
    decay = 0.5 * weight_decay * (dot(u, u) + dot(v, v))
    return weight * (loss + decay) + dot(dual, gap) + 0.5 * rho * dot(gap, gap)


def _ratio(value: float, scale: float) -> float:
    if scale > 0:
        return value / scale
    return 0.0 if value == 0 else float("inf")
