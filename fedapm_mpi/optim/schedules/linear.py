"""A step size that falls, or grows, in a straight line to its last value."""

from dataclasses import dataclass

from fedapm_mpi.optim.schedules.base import schedules
from fedapm_mpi.utils.types import NonNegativeFloat


@schedules.register("linear")
@dataclass(frozen=True)
class Linear:
    r"""The factor :math:`1 + (f - 1)\,t/T` in round t of T, from 0 on."""

    final: NonNegativeFloat = 0.0
    """Factor f at the end."""

    def factor(self, position: float, rounds: float) -> float:
        """Return the factor; see `Schedule.factor`."""
        return 1.0 + (self.final - 1.0) * min(position / rounds, 1.0)
