"""A step size that is multiplied by a factor every few rounds."""

from dataclasses import dataclass
from math import floor

from fedapm_mpi.optim.schedules.base import schedules
from fedapm_mpi.utils.types import PositiveFloat, PositiveInt


@schedules.register("step")
@dataclass(frozen=True)
class Step:
    r"""The factor :math:`\gamma^{\lfloor t / k \rfloor}` in round t, from 0 on."""

    every: PositiveInt
    """Rounds k between two changes."""

    gamma: PositiveFloat = 0.1
    r"""Factor :math:`\gamma` of each change."""

    def factor(self, position: float, rounds: float) -> float:
        """Return the factor; see `Schedule.factor`."""
        return float(self.gamma ** floor(position / self.every))
