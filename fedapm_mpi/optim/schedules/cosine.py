"""A step size that falls along half a cosine, once or again and again."""

from dataclasses import dataclass
from math import cos, pi

from fedapm_mpi.optim.schedules.base import schedules
from fedapm_mpi.utils.types import NonNegativeFloat, PositiveFloat


@schedules.register("cosine")
@dataclass(frozen=True)
class Cosine:
    r"""The factor :math:`f + (1 - f) (1 + \cos(\pi t/T)) / 2` in round t of T.

    With `period`, T is the length of the present cycle and t its rounds so far.

    Reference: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm
    restarts", ICLR 2017, equation 5.
    """

    final: NonNegativeFloat = 0.0
    """Factor f at the end of a cycle."""

    period: PositiveFloat | None = None
    """Rounds of the first cycle, after which the step size starts again; one cycle of
    all rounds unless given."""

    growth: PositiveFloat = 1.0
    """Factor of a cycle's length to that before it; needs `period`."""

    def __post_init__(self) -> None:
        if self.growth < 1:
            msg = f"growth must be at least 1, got {self.growth}"
            raise ValueError(msg)
        if self.growth != 1 and self.period is None:
            msg = "growth has no effect without period; leave it out"
            raise ValueError(msg)

    def factor(self, position: float, rounds: float) -> float:
        """Return the factor; see `Schedule.factor`."""
        part = min(position / rounds, 1.0)
        if self.period is not None:
            length = self.period
            while position >= length:
                position -= length
                length *= self.growth
            part = position / length
        return self.final + (1.0 - self.final) * (1.0 + cos(pi * part)) / 2.0
