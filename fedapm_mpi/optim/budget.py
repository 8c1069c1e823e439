"""The length of a local phase, without torch: a configuration holds it."""

from dataclasses import dataclass, fields
from typing import Any

from fedapm_mpi.utils.types import strict


@strict
@dataclass(frozen=True)
class LocalBudget:
    """Length of a local phase: exactly one of epochs, steps, or a tolerance."""

    epochs: int | None = None
    """Passes over the client's training samples."""

    steps: int | None = None
    """Gradient steps; epochs are begun as needed."""

    xi: float | None = None
    r"""First tolerance :math:`\xi_i^0` of the squared gradient norm (u phase only)."""

    decay: float | None = None
    r"""Factor :math:`\mu_i` of the tolerance at each participation, in (0, 1)."""

    max_epochs: int | None = None
    """Most epochs to spend on reaching the tolerance."""

    def __post_init__(self) -> None:
        given = [self.epochs, self.steps, self.xi]
        if sum(value is not None for value in given) != 1:
            msg = "give exactly one of epochs, steps, xi"
            raise ValueError(msg)
        counts = {"epochs": self.epochs, "steps": self.steps}
        counts["max_epochs"] = self.max_epochs
        for name, value in counts.items():
            if value is not None and value < 1:
                msg = f"{name} must be at least 1, got {value}"
                raise ValueError(msg)
        if len({self.xi is None, self.decay is None, self.max_epochs is None}) > 1:
            msg = "xi, decay and max_epochs belong together: give all three or none"
            raise ValueError(msg)
        if self.decay is not None and not 0 < self.decay < 1:
            msg = f"decay must be in (0, 1), got {self.decay}"
            raise ValueError(msg)
        if self.xi is not None and not self.xi > 0:
            msg = f"xi must be positive, got {self.xi}"
            raise ValueError(msg)


def budgets(options: Any) -> dict[str, LocalBudget]:
    """Return a dataclass's fields that hold a `LocalBudget`, by name."""
    values = ((field.name, getattr(options, field.name)) for field in fields(options))
    return {name: value for name, value in values if isinstance(value, LocalBudget)}


def forbid_tolerance(**given: LocalBudget) -> None:
    """Check that phases end after a number of epochs or steps.

    Raises
    ------
    ValueError
        If a budget has a tolerance; the message names it.
    """
    for name, budget in given.items():
        if budget.xi is not None:
            msg = f"{name} takes epochs or steps; only fedapm's shared_work knows xi"
            raise ValueError(msg)
