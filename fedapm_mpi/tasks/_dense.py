"""What tasks with one class for each position of a sample have in common."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, TypeVar

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.tasks.base import SampleTask, Targets, bound, check_classes

D = TypeVar("D", bound="DenseTask")


@dataclass(frozen=True, kw_only=True)
class DenseTask(SampleTask):
    """One of K classes at each position of a sample, by K scores (logits) for each.

    A position whose target is negative, or `ignore_index`, has none. The loss of a
    sample is the mean over the positions that have one, so that it adds up over batches
    and clients; it is 0 for a sample without any.
    """

    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Part of the label that is spread evenly over all classes."""

    ignore_index: Annotated[int, Ge(0)] | None = None
    """Number of a class that counts neither in the loss nor in metrics, such as that of
    padding; besides positions that the data set itself leaves out."""

    positions: tuple[int, ...] = field(default=(), init=False)
    """Shape of a sample's positions, of the data set."""

    sample_outputs: int = field(default=0, init=False)

    name: ClassVar[str]
    """Of the task, for messages."""

    target_kind = "dense"
    outputs = "scores"
    graph_safe = True

    def for_targets(self: D, targets: Targets) -> D:
        """Return the task with the positions of a data set.

        Raises
        ------
        ConfigError
            If there are fewer than two classes, or none has the number `ignore_index`.
        """
        check_classes(self.name, targets.size)
        if self.ignore_index is not None and self.ignore_index >= targets.size:
            msg = (
                f"ignore_index is {self.ignore_index}, but the data set has the "
                f"classes 0 to {targets.size - 1}"
            )
            raise ConfigError(msg)
        numbers = targets.size * math.prod(targets.shape)
        return bound(self, positions=targets.shape, sample_outputs=numbers)

    def output_size(self, num_classes: int) -> int:
        """Return the scores of a position, K."""
        return num_classes

    def check_outputs(
        self, shape: Sequence[int], samples: int, num_classes: int | None = None
    ) -> str:
        """Return what is wrong with the shape of a model's scores; see `Task`."""
        if num_classes is None:
            fits = len(shape) == len(self.positions) + 2 and shape[0] == samples
            return "" if fits else self._wrong(shape)
        wanted = (samples, *self.output_shape(num_classes))
        if tuple(shape) == wanted:
            return ""
        return f"{self._wrong(shape)}, here {wanted}"

    def _wrong(self, shape: Sequence[int]) -> str:
        return f"{self.outputs} of shape {tuple(shape)}; it must be {self.expects}"

    def has_target(self, targets: Tensor) -> Tensor:
        """Return which positions count, a truth value for each."""
        there = targets >= 0
        if self.ignore_index is not None:
            there = there & (targets != self.ignore_index)
        return there

    @abstractmethod
    def position_losses(self, outputs: Tensor, classes: Tensor) -> Tensor:
        """Return the loss at each position, (n, *positions).

        Parameters
        ----------
        outputs
            Of the model.
        classes : (n, *positions)
            From 0 on; anything where there is none.
        """

    def sample_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample, (n,)."""
        there = self.has_target(targets)
        losses = self.position_losses(outputs, targets.clamp(min=0))
        total = torch.where(there, losses, 0).flatten(1).sum(dim=1)
        return total / there.flatten(1).sum(dim=1).clamp(min=1)
