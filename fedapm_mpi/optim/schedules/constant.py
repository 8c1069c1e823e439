"""The configured step size, in all rounds after the warm-up."""

from dataclasses import dataclass

from fedapm_mpi.optim.schedules.base import schedules


@schedules.register("constant")
@dataclass(frozen=True)
class Constant:
    """No decay."""

    def factor(self, position: float, rounds: float) -> float:
        """Return 1."""
        return 1.0
