"""The result of the multiplier test of a layer, and its threshold.

See `multiplier_test` for the test itself, and ``docs/method.md``.
"""

from dataclasses import dataclass
from math import erfc, sqrt
from statistics import NormalDist

AIC_THRESHOLD = 2.0
"""LM above which a layer of each client's own has the smaller AIC (Akaike, IEEE
Transactions on Automatic Control 19, 1974)."""

DAMPING = 0.1
"""Default share of a layer's mean Fisher entry that is added to each."""


@dataclass(frozen=True)
class LayerTest:
    """The test of one shared layer."""

    size: int
    """Parameters d."""

    clients: int
    """Clients with samples, m."""

    lm: float
    """LM, about 1 where clients agree."""

    effective_size: float
    """Independent parameters of the same variance that LM varies as much as: the
    squared sum of the weights w over the sum of their squares."""

    @property
    def degrees(self) -> float:
        """Degrees of freedom: m - 1 for each effective parameter."""
        return self.effective_size * (self.clients - 1)

    @property
    def p_value(self) -> float:
        """Probability of such a value if clients agree; 1 without any gradient."""
        if self.degrees == 0:
            return 1.0
        return chi_squared_tail(self.lm * self.degrees, self.degrees)


def chi_squared_tail(value: float, degrees: float) -> float:
    r"""Return the probability that a :math:`\chi^2` variable exceeds a value.

    By Wilson and Hilferty's approximation (Proceedings of the National Academy of
    Sciences 17, 1931): the cube root of :math:`\chi^2_k/k` is about normal with mean
    :math:`1 - 2/(9k)` and variance :math:`2/(9k)`. It is within 0.01 for 2 degrees of
    freedom, and within 0.001 from 10 on.
    """
    spread = 2 / (9 * degrees)
    deviation = ((value / degrees) ** (1 / 3) - (1 - spread)) / sqrt(spread)
    return 0.5 * erfc(deviation / sqrt(2))


def chi_squared_threshold(level: float, degrees: float) -> float:
    r"""Return what LM exceeds with the probability `level` if clients agree.

    It is :math:`\chi^2_k/k` at :math:`1 -` `level`, by the approximation of
    `chi_squared_tail`. It tends to 1 as layers grow.

    Parameters
    ----------
    level
        Probability between 0 and 1, such as 0.05.
    degrees
        Degrees of freedom k of the layer.
    """
    spread = 2 / (9 * degrees)
    root = 1 - spread + NormalDist().inv_cdf(1 - level) * sqrt(spread)
    return max(root, 0.0) ** 3


@dataclass(frozen=True)
class Threshold:
    """What LM of a layer must stay below for the layer to be shared."""

    value: float = AIC_THRESHOLD

    level: float | None = None
    """If given, in place of `value`: what clients in agreement exceed with this
    probability."""

    def of(self, test: LayerTest) -> float:
        """Return it for a layer."""
        if self.level is None or test.degrees == 0:
            return self.value
        return chi_squared_threshold(self.level, test.degrees)
