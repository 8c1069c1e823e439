r"""Conditions of FedAPM's theory on the penalties, and its Lyapunov function.

Reference: FedAPM, arXiv 2506.04672, section 5: lemmas 1 and 2, theorem 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fedapm_mpi.utils.types import PositiveFloat, strict


@strict
@dataclass(frozen=True)
class Lipschitz:
    """Constants of the clients' gradients, the largest over all clients."""

    u: PositiveFloat
    """Of the gradient in u, with respect to u."""

    v: PositiveFloat
    """Of the gradient in v, with respect to v."""

    uv: PositiveFloat
    """Of the gradient in u, with respect to v."""


def lyapunov_excess(xi: float, rho: float, decay: float) -> float:
    r"""Return :math:`29\,\xi_i / (\rho (1 - \mu_i))`.

    Summed over all clients, this is what the Lyapunov function has beyond the augmented
    Lagrangian where u steps end at a tolerance :math:`\xi_i` that falls by
    :math:`\mu_i`.
    """
    return 29 * xi / (rho * (1 - decay))


def unmet_conditions(
    rho: float, sigma: float, weights: Sequence[float], constants: Lipschitz
) -> list[str]:
    r"""Return one sentence for each condition of the theory that is not met.

    Descent needs :math:`\max\{3\alpha_i L_u, 3\alpha_i L_{uv}\} \le \rho \le
    \tfrac{15}8\sigma` for all i, the bound on subgradients
    :math:`\sigma \ge \alpha_i L_v`, and stationarity of every limit point
    :math:`\rho \ge 2 L_u`.

    Where penalties are of the clients' own losses, all factors :math:`\alpha_i` are 1:
    the Lagrangian is then a weighted sum of what the theory has for one client, and
    each term descends under the same conditions.

    Parameters
    ----------
    rho, sigma
        Penalty and proximal coefficient.
    weights
        Factors :math:`\alpha_i` of all clients' losses in their local problems.
    constants
        Lipschitz constants of the clients' losses, not multiplied by the weights.
    """
    alpha = max(weights)
    least = 3 * alpha * max(constants.u, constants.uv)
    found = []
    factor = "" if alpha == 1 else "alpha "
    if rho < least:
        found.append(
            f"rho {rho:g} is below 3 {factor}max(L_u, L_uv) = {least:g}: the theory "
            "does not promise descent in every round"
        )
    if rho > 15 / 8 * sigma:
        found.append(
            f"rho {rho:g} is above 15/8 sigma = {15 / 8 * sigma:g}: the theory does "
            "not promise descent in every round; "
            f"set sigma to {8 / 15 * 1.001 * rho:.4g} or more"
        )
    if sigma < alpha * constants.v:
        found.append(
            f"sigma {sigma:g} is below {factor}L_v = {alpha * constants.v:g}: the "
            "theory does not bound the subgradient"
        )
    if rho < 2 * constants.u:
        found.append(
            f"rho {rho:g} is below 2 L_u = {2 * constants.u:g}: the theory does not "
            "promise that limit points are stationary"
        )
    return found
