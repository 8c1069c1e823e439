"""Metrics of the library torchmetrics, by name."""

import importlib
import inspect
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedapm_mpi.errors import ConfigError, TrainingError
from fedapm_mpi.metrics.base import Metric, metrics
from fedapm_mpi.registry import did_you_mean

MODULES = ("torchmetrics.classification", "torchmetrics.regression")
"""Where metrics are looked up; names in them are distinct."""

SIZES = ("num_classes", "num_labels", "num_outputs")
"""Arguments that are the number of classes, labels or targets."""


@metrics.register("torchmetrics")
@dataclass(kw_only=True)
class TorchMetric(Metric):
    """A metric of torchmetrics (extra ``torchmetrics``), such as MulticlassCohenKappa.

    ``torchmetrics:NAME`` is short for this metric with that option. Numbers of classes,
    labels and outputs are those of the data set. It is computed on all samples of a
    client at once, in double precision, and on those of all clients for pooled figures.
    """

    metric: str
    """Class in torchmetrics.classification or torchmetrics.regression."""

    label: str = ""
    """Name in records; by default the class's in small letters, without what it is of:
    ``cohen_kappa``."""

    direction: str | None = None
    """``higher`` or ``lower``, which is better; needed where the library names none."""

    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the class."""

    made: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.label:
            words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", self.metric).lower()
            self.label = re.sub(r"^(multiclass|multilabel|binary)_", "", words)
        if self.direction not in (None, "higher", "lower"):
            msg = f"direction is {self.direction!r}, not 'higher' or 'lower'"
            raise ValueError(msg)

    def for_targets(self, kind: str, size: int) -> "TorchMetric":
        """Return the metric for a number of classes, labels or targets.

        Raises
        ------
        ConfigError
            If the library is not installed or has no such metric, or an option does
            not suit.
        """
        factory = _found(self.metric)
        known = inspect.signature(factory).parameters
        sizes = {key: size for key in SIZES if key in known and key not in self.options}
        try:
            made = factory(**sizes, **self.options)
        except (TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0][:200]
            msg = f"metric {self.metric!r}: {reason}"
            raise ConfigError(msg) from error
        found = replace(self)
        found.made = made
        found.higher_is_better = _direction(self, made)
        found.bounds = _bounds(made)
        return found

    def compute(self, predictions: NDArray[Any], targets: NDArray[Any]) -> float:
        """Return the figure; see `Metric.compute`.

        Raises
        ------
        TrainingError
            If the metric does not take these predictions, or gives several numbers.
        """
        given = torch.from_numpy(np.asarray(predictions))
        if given.is_floating_point():
            given = given.double()
        wanted = torch.from_numpy(np.asarray(targets))
        try:
            with warnings.catch_warnings():
                # Of classes that a client has no sample of.
                warnings.simplefilter("ignore")
                self.made.reset()
                self.made.update(given, wanted)
                found = self.made.compute()
                self.made.reset()
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            reason = str(error).partition("\n")[0][:200]
            msg = f"metric {self.metric!r}: {reason}"
            raise TrainingError(msg) from error
        if not isinstance(found, torch.Tensor) or found.numel() != 1:
            msg = (
                f"metric {self.metric!r} gives more than one number; set "
                "options.average, say"
            )
            raise TrainingError(msg)
        return float(found)


def _found(name: str) -> Any:
    try:
        parts = [importlib.import_module(module) for module in MODULES]
    except ImportError as error:
        msg = (
            f"metric {name!r} needs the library torchmetrics ({error}); install it: "
            "pip install 'fedapm-mpi[torchmetrics]'"
        )
        raise ConfigError(msg) from error
    known: Mapping[str, Any] = {
        key: value
        for part in parts
        for key, value in vars(part).items()
        if inspect.isclass(value) and hasattr(value, "compute")
    }
    if name not in known:
        near = did_you_mean(name, sorted(known))
        msg = f"torchmetrics has no metric {name!r} for these tasks{near}"
        raise ConfigError(msg)
    return known[name]


def _direction(metric: TorchMetric, made: Any) -> bool:
    known = getattr(made, "higher_is_better", None)
    if metric.direction is not None:
        return metric.direction == "higher"
    if known is None:
        msg = (
            f"metric {metric.metric!r}: torchmetrics does not say which way it is "
            "better; set direction to higher or lower"
        )
        raise ConfigError(msg)
    return bool(known)


def _bounds(made: Any) -> tuple[float, float] | None:
    low = getattr(made, "plot_lower_bound", None)
    high = getattr(made, "plot_upper_bound", None)
    return None if low is None or high is None else (float(low), float(high))
