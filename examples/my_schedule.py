r"""A schedule of step sizes of your own: up and down in a triangle, again and again.

    fedapm train examples/sensors.yaml \
        'schedule={name: "./examples/my_schedule.py:Triangle", period: 4, low: 0.2}'

.. math:: f(t) = \ell + (1 - \ell) \Bigl(1 - \Bigl|\frac{2t}{P} - 2
          \Bigl\lfloor \frac{t}{P} \Bigr\rfloor - 1\Bigr|\Bigr)

is the factor of the algorithm's step sizes in round t: :math:`\ell` at the beginning of
each period of P rounds, and 1 in its middle. With ``unit: step`` it also changes from
step to step.

Reference: Smith, "Cyclical learning rates for training neural networks", WACV 2017,
section 3.1.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Triangle:
    """Cyclical step sizes, a `Schedule`."""

    period: float
    """Rounds P from one low to the next."""

    low: float = 0.1
    r"""Smallest factor :math:`\ell`."""

    def factor(self, position: float, rounds: float) -> float:
        """Return the factor `position` rounds after the warm-up."""
        part = position / self.period % 1.0
        return self.low + (1.0 - self.low) * (1.0 - abs(2.0 * part - 1.0))
