"""Base of the algorithms whose local phases are `minimize` with their options."""

from dataclasses import dataclass
from typing import Any

from fedapm_mpi.algorithms.base import Algorithm, BatchSize, convert_mappings
from fedapm_mpi.optim.default_solver import BATCH_SIZE
from fedapm_mpi.optim.local import (
    Block,
    GradientHook,
    LocalBudget,
    Objective,
    budgets,
    forbid_tolerance,
    minimize,
)
from fedapm_mpi.utils.types import NonNegativeFloat


@dataclass(frozen=True, kw_only=True)
class LocalTraining(Algorithm):
    """Options of the local phases; a subclass adds its step sizes and budgets."""

    batch_size: BatchSize = BATCH_SIZE
    """Samples in a mini-batch, in every phase; 0 is the full batch."""

    weight_decay: NonNegativeFloat = 0.0
    """L2 decay of all that is trained, included in the loss."""

    def __post_init__(self) -> None:
        convert_mappings(self)
        forbid_tolerance(**budgets(self))

    def mini_batch_size(self) -> int:
        """Return the option."""
        return self.batch_size

    def minimize(
        self,
        problem: Objective,
        block: Block,
        budget: LocalBudget,
        lr: float,
        gradient_hook: GradientHook | None = None,
        **more: Any,
    ) -> int:
        """Take gradient steps and return their number.

        Further keyword arguments are those of `optim.local.minimize`.
        """
        return minimize(
            problem,
            block,
            budget,
            batch_size=self.batch_size,
            lr=lr,
            weight_decay=self.weight_decay,
            gradient_hook=gradient_hook,
            **more,
        )
