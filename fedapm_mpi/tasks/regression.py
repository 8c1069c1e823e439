"""Regression: one or several numbers for each sample, by one of five losses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Gt, Lt
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.tasks.base import (
    Floats,
    SampleTask,
    Targets,
    bound,
    check_finite,
    mean_of_known,
    tasks,
)

Loss = Literal["mse", "mae", "huber", "quantile", "poisson"]


@tasks.register("regression")
@dataclass(frozen=True, kw_only=True)
class Regression(SampleTask):
    r"""k targets for each sample, from as many outputs.

    Targets have the mean :math:`m_j` and standard deviation :math:`s_j` over all
    training samples of all clients. Models are trained on :math:`(y_j - m_j) / s_j`;
    predictions and all metrics but the loss are in the targets' own units. The loss of
    a sample is the mean over its targets, of which it may lack some.
    """

    loss_function: Loss = "mse"
    """``mse``, the squared error; ``mae``, the absolute one; ``huber``, squared up to
    `delta` and linear beyond; ``quantile``, the pinball loss, whose minimum is at the
    `quantile`; ``poisson``, of counts, whose output is the logarithm of the mean."""

    delta: Annotated[float, Gt(0)] | None = None
    """Of ``huber``, in standard deviations, if targets are standardised; 1 unless
    given."""

    quantile: Annotated[float, Gt(0), Lt(1)] | None = None
    """Of ``quantile``; 0.5 unless given, the median."""

    standardise: bool | None = None
    """Whether models are trained on standardised targets; so unless the loss is
    ``poisson``, which is of counts."""

    centre: tuple[float, ...] = field(default=(0.0,), init=False)
    scale: tuple[float, ...] = field(default=(1.0,), init=False)
    """What is taken off each target, and what it is then divided by."""

    incomplete: bool = field(default=False, init=False)
    """Whether samples may lack targets."""

    target_kind = "real"
    expects = "a floating Tensor (n, targets)"
    higher_is_better: ClassVar[Mapping[str, bool]] = {
        "rmse": False,
        "mae": False,
        "r2": True,
    }
    partial = ("r2",)
    takes_incomplete = True

    def __post_init__(self) -> None:
        for name, needed in (("delta", "huber"), ("quantile", "quantile")):
            if getattr(self, name) is not None and self.loss_function != needed:
                msg = (
                    f"{name} has no effect with loss_function {self.loss_function!r}; "
                    f"leave it out, or choose {needed!r}"
                )
                raise ValueError(msg)
        if self.loss_function == "poisson" and self.standardise:
            msg = (
                "loss_function 'poisson' is of counts as they are; leave standardise "
                "out"
            )
            raise ValueError(msg)

    def for_targets(self, targets: Targets) -> "Regression":
        """Return the task with the scale of a data set's targets.

        Raises
        ------
        ConfigError
            If counts are wanted, and the mean of a target is negative.
        """
        wanted = self.standardise
        if wanted is None:
            wanted = self.loss_function != "poisson"
        if self.loss_function == "poisson" and min(targets.mean) < 0:
            worst = int(np.argmin(targets.mean))
            msg = (
                f"loss_function 'poisson' is of counts, but the mean of target "
                f"{targets.names[worst]!r} is {targets.mean[worst]:.4g}; choose another"
            )
            raise ConfigError(msg)
        size = targets.size
        centre = targets.mean if wanted else (0.0,) * size
        scale = tuple(s or 1.0 for s in targets.std) if wanted else (1.0,) * size
        return bound(self, centre=centre, scale=scale, incomplete=targets.incomplete)

    def output_size(self, num_classes: int) -> int:
        """Return the number of targets."""
        return num_classes

    def sample_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each sample, (n,)."""
        centre, scale = outputs.new_tensor(self.centre), outputs.new_tensor(self.scale)
        wanted = (targets.to(outputs.dtype) - centre) / scale
        if self.incomplete:
            known = ~wanted.isnan()
            losses = self._elementwise(outputs, torch.where(known, wanted, 0))
            return mean_of_known(losses, known)
        return self._elementwise(outputs, wanted).mean(dim=1)

    def _elementwise(self, outputs: Tensor, wanted: Tensor) -> Tensor:
        match self.loss_function:
            case "mse":
                return functional.mse_loss(outputs, wanted, reduction="none")
            case "mae":
                return functional.l1_loss(outputs, wanted, reduction="none")
            case "huber":
                delta = 1.0 if self.delta is None else self.delta
                return functional.huber_loss(
                    outputs, wanted, reduction="none", delta=delta
                )
            case "poisson":
                return functional.poisson_nll_loss(outputs, wanted, reduction="none")
            case "quantile":
                q = 0.5 if self.quantile is None else self.quantile
                error = wanted - outputs
                return torch.maximum(q * error, (q - 1) * error)

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the targets (n, k) in their own units; of counts, their means."""
        if self.loss_function == "poisson":
            return outputs.exp()
        return outputs * outputs.new_tensor(self.scale) + outputs.new_tensor(
            self.centre
        )

    def metrics(self, predictions: Floats, targets: Floats) -> Mapping[str, float]:
        """Return what `regression_metrics` does, of predictions and targets (n, k)."""
        check_finite(predictions)
        return regression_metrics(predictions, targets)


def regression_metrics(predictions: Floats, targets: Floats) -> dict[str, float]:
    r"""Return the errors of predictions, each averaged over the k targets.

    ``rmse`` is the root of the mean squared error, ``mae`` the mean absolute one, and
    ``r2`` :math:`1 - \sum (y - \hat y)^2 / \sum (y - \bar y)^2`, with the mean
    :math:`\bar y` of the given samples; it is undefined (NaN) where a target has one
    value alone, as it is for a single sample. Targets that a sample lacks (NaN) do not
    count, and a target that all samples lack is left out of the average.

    Parameters
    ----------
    predictions, targets : (n, k)
        n is at least 1.
    """
    known = ~np.isnan(targets)
    if not known.all():
        return _metrics_of_known(predictions, targets, known)
    wanted = np.asarray(targets, dtype=np.float64)
    errors = np.asarray(predictions, dtype=np.float64) - wanted
    squares = np.square(errors)
    spread = np.square(wanted - wanted.mean(axis=0)).sum(axis=0)
    explained = np.full(len(spread), np.nan)
    varies = (wanted != wanted[:1]).any(axis=0)
    explained[varies] = 1 - squares.sum(axis=0)[varies] / spread[varies]
    return {
        "rmse": float(np.sqrt(squares.mean(axis=0)).mean()),
        "mae": float(np.abs(errors).mean()),
        "r2": float(explained.mean()),
    }


def _metrics_of_known(
    predictions: Floats, targets: Floats, known: NDArray[np.bool_]
) -> dict[str, float]:
    """Return the averages of the errors of each target, of the samples that have it."""
    each = [
        regression_metrics(predictions[rows, k : k + 1], targets[rows, k : k + 1])
        for k, rows in enumerate(known.T)
        if rows.any()
    ]
    return {name: float(np.mean([one[name] for one in each])) for name in each[0]}
