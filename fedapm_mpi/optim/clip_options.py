"""The options of clipping, without torch: a configuration holds them."""

from dataclasses import dataclass
from typing import Literal

from fedapm_mpi.utils.types import PositiveFloat, strict


@strict
@dataclass(frozen=True, kw_only=True)
class Clip:
    """Bound of what a local step follows; exactly one of a norm and a value."""

    norm: PositiveFloat | None = None
    """Largest Euclidean norm; a longer vector is scaled to it."""

    value: PositiveFloat | None = None
    """Largest magnitude of an entry; larger ones are cut to it."""

    of: Literal["direction", "loss"] = "direction"
    """What is bounded: the whole gradient of the local problem, with weight decay,
    duals, proximal terms and control variates, whose bound moves no solution; or the
    gradient of the loss alone, before they are added."""

    blocks: Literal["joint", "separate"] = "joint"
    """Whether one norm is that of all blocks of a step, or each block has its own."""

    def __post_init__(self) -> None:
        if (self.norm is None) == (self.value is None):
            msg = "give exactly one of norm, value"
            raise ValueError(msg)
        if self.value is not None and self.blocks == "separate":
            msg = "blocks has no effect on value, which bounds each entry; leave it out"
            raise ValueError(msg)
