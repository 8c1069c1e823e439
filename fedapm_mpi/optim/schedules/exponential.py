"""A step size that is multiplied by a factor in every round."""

from dataclasses import dataclass

from fedapm_mpi.optim.schedules.base import schedules
from fedapm_mpi.utils.types import PositiveFloat


@schedules.register("exponential")
@dataclass(frozen=True)
class Exponential:
    r"""The factor :math:`\gamma^t` in round t, from 0 on."""

    gamma: PositiveFloat
    r"""Factor :math:`\gamma` from round to round."""

    def factor(self, position: float, rounds: float) -> float:
        """Return the factor; see `Schedule.factor`."""
        return float(self.gamma**position)
