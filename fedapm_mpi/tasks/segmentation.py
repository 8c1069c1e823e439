"""Semantic segmentation: a class for each pixel, by intersection over union."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.tasks._dense import DenseTask
from fedapm_mpi.tasks.base import Floats, Targets, bound, check_finite, tasks
from fedapm_mpi.utils.text import format_some


@tasks.register("segmentation")
@dataclass(frozen=True, kw_only=True)
class Segmentation(DenseTask):
    """One of K classes for each pixel of an image, or voxel, or step of a signal.

    ``iou`` is the intersection over union of predicted and true pixels, ``dice`` twice
    the intersection over their sum; both are of each class, over all samples together,
    and averaged over the classes that occur among predicted or true pixels.
    ``accuracy`` is the share of right pixels.
    """

    class_weights: Literal["balanced"] | tuple[Annotated[float, Ge(0)], ...] | None = (
        None
    )
    """Weight of each class in the loss, by its number; ``balanced`` is N / (K n_k) for
    a class of n_k of all N training pixels. The loss of a sample is the sum of weighted
    losses over the number of its pixels, so that it adds up over batches and clients.
    """

    weights: tuple[float, ...] = field(default=(), init=False)
    """What `class_weights` comes to."""

    name = "segmentation"
    expects = "class scores, a floating Tensor (n, classes, *positions)"
    higher_is_better: ClassVar[Mapping[str, bool]] = {
        "iou": True,
        "dice": True,
        "accuracy": True,
    }
    partial = ("iou", "dice", "accuracy")
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {"iou": (0.0, 1.0)}

    def for_targets(self, targets: Targets) -> "Segmentation":
        """Return the task with positions and classes' weights of a data set.

        Raises
        ------
        ConfigError
            If there are not as many weights as classes, all are zero, or they are
            balanced and a class has no training pixel.
        """
        made, given = super().for_targets(targets), self.class_weights
        if given is None:
            return made
        if given == "balanced":
            for name, share in zip(targets.names, targets.mean, strict=True):
                if not share:
                    msg = f"class_weights: no training pixel is of class {name!r}"
                    raise ConfigError(msg)
            given = tuple(1 / (targets.size * share) for share in targets.mean)
        if len(given) != targets.size or not any(given):
            msg = (
                f"class_weights has {len(given)} weights for {targets.size} classes "
                f"({format_some(targets.names)}); give one for each, not all zero"
            )
            raise ConfigError(msg)
        # A captured graph would hold the weights' copy to the device.
        return bound(made, weights=tuple(map(float, given)), graph_safe=False)

    def output_shape(self, num_classes: int) -> tuple[int, ...]:
        """Return the shape of an image's scores, (K, *positions)."""
        return (num_classes, *self.positions)

    def position_losses(self, outputs: Tensor, classes: Tensor) -> Tensor:
        """Return the weighted cross-entropy at each pixel, (n, *positions)."""
        return cross_entropy(
            outputs,
            classes,
            weight=outputs.new_tensor(self.weights) if self.weights else None,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the class with the largest score of each pixel, (n, pixels)."""
        return outputs.argmax(dim=1).flatten(1)

    def prediction_size(self, num_classes: int) -> int:
        """Return the number of pixels."""
        return int(np.prod(self.positions))

    def metric_inputs(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return of each sample the hits, predicted and true pixels by class, (n, 3K).

        Scores that are not finite give NaN, not a class.
        """
        there = self.has_target(targets).flatten(1)
        wanted = targets.clamp(min=0).flatten(1)
        found = self.predict(outputs)
        size = (len(outputs), outputs.shape[1])
        sums = [
            torch.zeros(size, device=outputs.device).scatter_add(
                1, classes, counted.float()
            )
            for classes, counted in (
                (wanted, there & (found == wanted)),
                (found, there),
                (wanted, there),
            )
        ]
        made = torch.cat(sums, dim=1)
        finite = outputs.flatten(1).isfinite().all(dim=1)
        return torch.where(finite[:, None], made, torch.nan)

    def metric_input_size(self, num_classes: int) -> int:
        """Return three for each class."""
        return 3 * num_classes

    def metrics(self, predictions: Floats, targets: Floats) -> Mapping[str, float]:
        """Return what `segmentation_metrics` does of the samples' pixels together."""
        check_finite(predictions)
        sums = predictions.sum(axis=0, dtype=np.float64)
        hits, found, wanted = sums.reshape(3, -1)
        return segmentation_metrics(hits, found, wanted)


def segmentation_metrics(
    hits: NDArray[np.float64],
    predicted: NDArray[np.float64],
    present: NDArray[np.float64],
) -> dict[str, float]:
    """Score pixels by class; undefined (NaN) if there is no pixel.

    Parameters
    ----------
    hits, predicted, present : (K,)
        Pixels of each class that are right, predicted, and there.
    """
    there = predicted + present > 0
    if not there.any():
        return dict.fromkeys(("iou", "dice", "accuracy"), float("nan"))
    both, sums = hits[there], (predicted + present)[there]
    return {
        "iou": float((both / (sums - both)).mean()),
        "dice": float((2 * both / sums).mean()),
        "accuracy": float(hits.sum() / present.sum()),
    }
