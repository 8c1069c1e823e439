"""What algorithms that train by plain SGD have in common."""

from collections.abc import Callable
from dataclasses import dataclass, fields

from torch import Tensor

from fedapm_mpi.algorithms.base import (
    BatchSize,
    Block,
    LocalBudget,
    NonNegativeFloat,
    Objective,
    as_options,
    forbid_criterion,
    minimize,
)


@dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """Options of SGD on a client; a subclass's phases are fields that end in "work"."""

    batch_size: BatchSize
    """Samples in a mini-batch, in every phase; 0 is the full batch."""

    weight_decay: NonNegativeFloat = 0.0
    """L2 decay of whatever is trained, as a part of its loss."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name.endswith("work"):
                work = as_options(LocalBudget, getattr(self, field.name))
                forbid_criterion(**{field.name: work})
                object.__setattr__(self, field.name, work)

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
