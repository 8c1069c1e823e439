"""The interface of a schedule of step sizes."""

from collections.abc import Callable
from typing import Protocol

from fedapm_mpi.registry import Registry


class Schedule(Protocol):
    """A factor of the step sizes as a function of training progress."""

    def factor(self, position: float, rounds: float) -> float:
        """Return the factor of the configured step size, from 0 on.

        Parameters
        ----------
        position
            Rounds since the end of the warm-up, from 0 on. A whole number where the
            step size changes by round; between two where it changes by local step.
        rounds
            Rounds from the end of the warm-up to the end of the schedule, above 0. At
            `position` = `rounds` and after it, a decay has ended.
        """
        ...


schedules: Registry[Callable[..., Schedule]] = Registry("schedule", __package__)
