r"""The Lagrange multiplier test of what clients should share; see ``docs/method.md``.

The multiplier of the constraint :math:`u_i = u` is :math:`\pi_i = -s_i` at rest, with
:math:`s_i` the mean gradient of client i's loss in the shared block. Where its n_i
samples follow the shared model, :math:`s_i` is sampling noise with variance
:math:`F/n_i`, F the Fisher information of one sample. Of a layer of d parameters

.. math:: \mathrm{LM} = \frac1m \sum_{i=1}^m \frac1d \sum_{j=1}^d
          \frac{n_i s_{ij}^2}{F_j}

is then about 1, and larger by :math:`n_i \delta_{ij}^2 / F_j` where the expected
gradient is :math:`\delta_i` instead of 0.

References: Aitchison and Silvey, Annals of Mathematical Statistics 29, 1958 (multiplier
form); Rao, Proceedings of the Cambridge Philosophical Society 44, 1948 (score form);
Breusch and Pagan, Review of Economic Studies 47, 1980; Akaike, IEEE Transactions on
Automatic Control 19, 1974 (threshold 2).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from statistics import NormalDist

import torch
from torch import Tensor

AIC_THRESHOLD = 2.0
"""LM above which a layer of each client's own has the smaller AIC."""

DAMPING = 0.1
"""Default share of the mean Fisher entry that is added to each."""


@dataclass(frozen=True)
class LayerTest:
    """The test of one shared layer."""

    size: int
    """Parameters d."""

    clients: int
    """Clients with samples, m."""

    lm: float
    """LM, the mean over these clients and the layer's parameters."""

    @property
    def statistic(self) -> float:
        """The sum over clients and parameters, m d LM."""
        return self.lm * self.size * self.clients

    @property
    def degrees(self) -> int:
        """Degrees of freedom d (m - 1): the parameters that own layers would add."""
        return self.size * (self.clients - 1)

    @property
    def p_value(self) -> float:
        """Probability of such a statistic if clients agree; 1 for a single client."""
        if self.degrees == 0:
            return 1.0
        return chi_squared_tail(self.statistic, self.degrees)


def damped_fisher(mean_squares: Tensor, damping: float = DAMPING) -> Tensor:
    r"""Return the Fisher diagonal over clients, with its small entries raised.

    .. math:: F_j = \tfrac1m \sum_i q_{ij} + \lambda \bar q, \qquad
              \bar q = \tfrac1{md} \sum_{i,j} q_{ij}

    Parameters
    ----------
    mean_squares : (m, d)
        Mean squared per-sample gradients q of each client with samples.
    damping
        :math:`\lambda`, from 0 on.

    Returns
    -------
    (d,) Tensor, float64
    """
    fisher = mean_squares.double().mean(0)
    if not len(fisher):
        return fisher
    return fisher + damping * fisher.mean()


def multiplier_test(
    scores: Tensor,
    counts: Tensor,
    fisher: Tensor,
    layers: Mapping[str, slice],
    *,
    centered: bool = False,
) -> dict[str, LayerTest]:
    r"""Return the test of each layer.

    Parameters
    ----------
    scores : (m, d)
        Each client's mean gradient :math:`s_i` in the shared block, at the server's u
        and its own personal block.
    counts : (m,)
        Its samples :math:`n_i`; clients without any are left out.
    fisher : (d,)
        Fisher diagonal of one sample, damped.
    layers
        Places of the layers in the shared block, by name; none may be empty.
    centered
        Whether the mean of :math:`s_i` by :math:`n_i` is subtracted first. It is zero
        at the minimum of the sum of all losses; away from that, and under weight decay,
        it is what clients have in common, which no layer of their own would change.

    Raises
    ------
    ValueError
        If shapes do not agree, a layer is empty, or no client has samples.
    """
    if scores.shape != (len(counts), len(fisher)):
        msg = (
            f"scores have the shape {tuple(scores.shape)}, with {len(counts)} clients "
            f"and {len(fisher)} parameters"
        )
        raise ValueError(msg)
    held = counts > 0
    m, n = int(held.sum()), counts[held].double()[:, None]
    if not m:
        msg = "no client has samples"
        raise ValueError(msg)
    s = scores[held].double()
    if centered:
        s = s - (n * s).sum(0) / n.sum()
    # A parameter without any gradient says nothing: 0 over 0 is 0.
    terms = torch.where(s == 0, 0.0, n * s.square() / fisher.double())
    found = {}
    for name, place in layers.items():
        own = terms[:, place]
        if not own.shape[1]:
            msg = f"the layer {name!r} has no parameters"
            raise ValueError(msg)
        found[name] = LayerTest(own.shape[1], m, float(own.mean()))
    return found


def chi_squared_tail(value: float, degrees: int) -> float:
    r"""Return the probability that a :math:`\chi^2` variable exceeds a value.

    By Wilson and Hilferty's approximation (Proceedings of the National Academy of
    Sciences 17, 1931): the cube root of :math:`\chi^2_k/k` is about normal with mean
    :math:`1 - 2/(9k)` and variance :math:`2/(9k)`. It is within 0.01 for 2 degrees of
    freedom, and within 0.001 from 10 on.
    """
    spread = 2 / (9 * degrees)
    deviation = ((value / degrees) ** (1 / 3) - (1 - spread)) / sqrt(spread)
    return 0.5 * erfc(deviation / sqrt(2))


def chi_squared_threshold(level: float, clients: int, size: int) -> float:
    r"""Return the LM that clients in agreement exceed with a probability of `level`.

    It is :math:`\chi^2_{d(m-1)}/(dm)` at :math:`1 -` `level`, by the approximation of
    `chi_squared_tail`. It tends to 1 as layers grow.

    Parameters
    ----------
    level
        Probability between 0 and 1, such as 0.05.
    clients
        Clients with samples, m, at least 2.
    size
        Parameters of the layer, d.
    """
    degrees = size * (clients - 1)
    spread = 2 / (9 * degrees)
    root = 1 - spread + NormalDist().inv_cdf(1 - level) * sqrt(spread)
    return max(root, 0.0) ** 3 * degrees / (size * clients)


@dataclass(frozen=True)
class Candidate:
    """A set of personal parameters, with the test of what it leaves shared."""

    name: str
    personal_size: int
    """Parameters that are personal."""

    lm: Mapping[str, float]
    """LM of each layer that is still shared; none where everything is personal."""

    def suffices(self, threshold: float | Mapping[str, float] = AIC_THRESHOLD) -> bool:
        """Return whether every layer that is still shared stays below the threshold.

        `threshold` is one number, or one for each layer.
        """
        return all(
            lm < (threshold if isinstance(threshold, int | float) else threshold[name])
            for name, lm in self.lm.items()
        )


def smallest_sufficient(
    candidates: Sequence[Candidate],
    threshold: float | Mapping[str, float] = AIC_THRESHOLD,
) -> Candidate | None:
    """Return the smallest candidate that suffices, the first of equals, if any does."""
    enough = [one for one in candidates if one.suffices(threshold)]
    return min(enough, key=lambda one: one.personal_size, default=None)
