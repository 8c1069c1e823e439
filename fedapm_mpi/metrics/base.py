"""The interface of a metric that is added to those of a task."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from fedapm_mpi.registry import Registry


class Metric(ABC):
    """A figure of a client's predictions, and of all clients' together.

    Subclasses are registered in `metrics`. An instance is shared by all clients of a
    rank and must not remember any of them.
    """

    label: str
    """Its name in records and tables, such as ``kappa``."""

    higher_is_better: bool
    """Its direction, which worst deciles and searches go by."""

    bounds: tuple[float, float] | None = None
    """Least and largest value, for plots; `None` if it has no such."""

    def for_targets(self, kind: str, size: int) -> "Metric":
        """Return the metric for a data set; by default itself. Called once.

        Parameters
        ----------
        kind
            ``class``, ``real`` or ``binary``; see `fedapm_mpi.tasks.Targets`.
        size
            Number of classes, targets or labels.

        Raises
        ------
        ConfigError
            If it does not suit them.
        """
        return self

    @abstractmethod
    def compute(self, predictions: NDArray[Any], targets: NDArray[Any]) -> float:
        """Return the figure; NaN where it is undefined.

        Parameters
        ----------
        predictions
            What `Task.metric_pair` gives: ``(n, K)`` class probabilities, ``(n,)``
            classes of an ordinal task, ``(n,)`` or ``(n, k)`` numbers in their own
            units, or ``(n, k)`` probabilities of labels; n is at least 1.
        targets
            ``(n,)`` or ``(n, k)`` of the same samples.
        """


metrics: Registry[Callable[..., Metric]] = Registry(
    "metric", "fedapm_mpi.metrics", {"torchmetrics": "metric"}
)
