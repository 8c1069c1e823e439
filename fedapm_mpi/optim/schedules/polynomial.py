"""A step size that falls to its last value by a power of the rounds left."""

from dataclasses import dataclass

from fedapm_mpi.optim.schedules.base import schedules
from fedapm_mpi.utils.types import NonNegativeFloat, PositiveFloat


@schedules.register("polynomial")
@dataclass(frozen=True)
class Polynomial:
    r"""The factor :math:`f + (1 - f) (1 - t/T)^p` in round t of T, from 0 on."""

    power: PositiveFloat = 2.0
    """Power p; 1 is linear."""

    final: NonNegativeFloat = 0.0
    """Factor f at the end."""

    def factor(self, position: float, rounds: float) -> float:
        """Return the factor; see `Schedule.factor`."""
        left = 1.0 - min(position / rounds, 1.0)
        return float(self.final + (1.0 - self.final) * left**self.power)
