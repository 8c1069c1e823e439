"""What algorithms that train by plain SGD have in common."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from fedapm_mpi.algorithms.base import (
    Algorithm,
    BatchSize,
    Block,
    LocalBudget,
    NonNegativeFloat,
    Objective,
    budgets,
    convert_mappings,
    forbid_criterion,
    minimize,
)


@dataclass(frozen=True, kw_only=True)
class LocalTraining(Algorithm):
    """Options of SGD on a client; a subclass adds fields and phases of its own."""

    batch_size: BatchSize
    """Samples in a mini-batch, in every phase; 0 is the full batch."""

    weight_decay: NonNegativeFloat = 0.0
    """L2 decay of whatever is trained, as a part of its loss."""

    def __post_init__(self) -> None:
        convert_mappings(self)
        forbid_criterion(**budgets(self))

    def mini_batch_size(self) -> int:
        """Return the option."""
        return self.batch_size

    def minimize(
        self,
        problem: Objective,
        part: Block,
        work: LocalBudget,
        lr: float,
        adjust_shared: Callable[[Tensor, Tensor], object] | None = None,
    ) -> None:
        """Take SGD steps; see `base.minimize`."""
        minimize(
            problem,
            part,
            work,
            batch_size=self.batch_size,
            lr=lr,
            weight_decay=self.weight_decay,
            adjust_shared=adjust_shared,
        )
