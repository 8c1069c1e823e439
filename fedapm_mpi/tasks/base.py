"""The interface of a task: its loss, what it predicts, and how that is measured."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.errors import ConfigError, TrainingError
from fedapm_mpi.metrics import Metric
from fedapm_mpi.registry import Registry

if TYPE_CHECKING:  # who only reads metrics needs no torch
    from torch import Tensor

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]

TargetKind = Literal["class", "real", "binary", "dense"]

LOSS = "loss"
"""The metric that every task has: the mean of its loss over samples."""


@dataclass(frozen=True, kw_only=True)
class MetricSet:
    """The metrics of an evaluation: their names, and which way they are better.

    It is all that tables, plots and summaries know of a task, and a run directory
    keeps it, so that results can be read without the task's code.
    """

    higher_is_better: Mapping[str, bool]
    """Every metric, the loss included, in the order of tables."""

    headline: str
    """The metric that progress lines, tables of sweeps and plots show."""

    displayed: tuple[str, ...]
    """Metrics of a comparison's table; its CSV file has all."""

    partial: tuple[str, ...] = ()
    """Metrics that may be undefined for a client with samples; records state for how
    many clients they are known."""

    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Least and largest value of metrics that have both."""

    statistics: tuple[str, ...] = ()
    """Further keys of a record, from `Task.record_statistics`."""

    @property
    def names(self) -> tuple[str, ...]:
        """All metrics, in the order of tables."""
        return tuple(self.higher_is_better)

    def plain(self) -> dict[str, Any]:
        """Return the same as plain values, for a JSON file."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: Any) -> "MetricSet":
        """Return what `plain` gave, read from a file.

        Raises
        ------
        ValueError
            If the values describe no metrics.
        """
        try:
            higher = {str(k): bool(v) for k, v in values["higher_is_better"].items()}
            found = cls(
                higher_is_better=higher,
                headline=str(values["headline"]),
                displayed=_names(values["displayed"]),
                partial=_names(values["partial"]),
                bounds={
                    str(k): (float(low), float(high))
                    for k, (low, high) in values["bounds"].items()
                },
                statistics=_names(values["statistics"]),
            )
        except (LookupError, TypeError, AttributeError) as error:
            msg = f"no description of metrics ({error!r})"
            raise ValueError(msg) from error
        used = {found.headline, *found.displayed, *found.partial, *found.bounds}
        if LOSS not in higher or not used <= set(higher):
            msg = f"metrics {sorted(used)} are not all among {sorted(higher)}"
            raise ValueError(msg)
        return found


@dataclass(frozen=True)
class Targets:
    """What a data set says of the targets of its samples."""

    kind: TargetKind
    """``class``: one class for each sample; ``real``: numbers; ``binary``: labels that
    apply or do not; ``dense``: one class for each position of a sample."""

    names: tuple[str, ...]
    """Names of the K classes, also of dense targets, or of the k targets or labels."""

    counts: tuple[int, ...] = ()
    """Of classes: training samples of each, over all clients."""

    mean: tuple[float, ...] = ()
    """Of the others: mean over all training samples, in the targets' own units.

    Of dense ones: the share of each class among all training positions that have one.
    """

    std: tuple[float, ...] = ()
    """And their standard deviation; 0 where all values are equal."""

    shape: tuple[int, ...] = ()
    """Of the positions of a sample, where targets are dense."""

    incomplete: bool = False
    """Whether samples may lack some of their targets, which are then NaN."""

    @property
    def size(self) -> int:
        """The number of classes, targets or labels."""
        return len(self.names)

    @property
    def columns(self) -> int:
        """The numbers of a sample's targets that metrics are given: a class is one.

        Dense ones are not given; see `Task.metric_inputs`.
        """
        return {"class": 1, "dense": 0}.get(self.kind, self.size)


def _names(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list | tuple):
        msg = f"{values!r} is no list of names"
        raise TypeError(msg)
    return tuple(map(str, values))


class Task(ABC):
    """What models are trained for; subclasses are registered in `tasks`.

    An instance is shared by all clients of a rank. It holds its options and no state:
    results must not depend on the order in which clients are trained.
    """

    target_kind: ClassVar[TargetKind] = "class"
    """Kind of targets that it is for: see `Targets`. Classes are (n,) int64, dense
    targets (n, *shape) int64 with -1 where there is none, others (n, k) in the floating
    type of the run."""

    outputs: ClassVar[str] = "outputs"
    """What a model's outputs are called, for messages."""

    expects: ClassVar[str] = "outputs, a floating Tensor (n, outputs)"
    """What a model must return for a batch of n samples, for messages."""

    higher_is_better: ClassVar[Mapping[str, bool]] = {}
    """The metrics besides the loss, in the order of tables; at least one."""

    headline: ClassVar[str | None] = None
    """The most important metric; `None` for the first."""

    displayed: ClassVar[tuple[str, ...] | None] = None
    """Metrics of a comparison's table; `None` for all, the loss last."""

    partial: ClassVar[tuple[str, ...]] = ()
    """Metrics that `metrics` may leave undefined (NaN) for some clients."""

    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """Least and largest value of metrics that have both, for plots."""

    client_counts: ClassVar[tuple[str, ...]] = ()
    """Names of the whole numbers that `counts` gives; columns of ``clients.csv``."""

    statistics: ClassVar[tuple[str, ...]] = ()
    """Keys that `record_statistics` adds to the record of an evaluation."""

    takes_incomplete: ClassVar[bool] = False
    """Whether loss and metrics leave out targets that a sample lacks, which are NaN."""

    graph_safe: ClassVar[bool] = False
    """Whether `loss` may be captured in a CUDA graph: it launches the same kernels for
    all values, and depends on nothing but its arguments and the options."""

    sample_outputs: int = 0
    """Numbers in a sample's outputs, where these limit how many samples are evaluated
    at a time; else 0."""

    added: tuple[Metric, ...] = ()
    """Metrics that the configuration adds to the task's own; see `with_metrics`."""

    def metric_set(self) -> MetricSet:
        """Return the names and directions of all metrics, the loss first."""
        own = {LOSS: False, **self.higher_is_better}
        added = {metric.label: metric for metric in self.added}
        return MetricSet(
            higher_is_better=own | {k: m.higher_is_better for k, m in added.items()},
            headline=self.headline or next(iter(self.higher_is_better), LOSS),
            displayed=(*(self.displayed or (*self.higher_is_better, LOSS)), *added),
            partial=(*self.partial, *added),
            bounds={**self.bounds}
            | {k: m.bounds for k, m in added.items() if m.bounds is not None},
            statistics=self.statistics,
        )

    def for_targets(self, targets: Targets) -> "Task":
        """Return the task for a data set, such as with the scale of its targets.

        By default the task itself. Called once, before anything else.

        Raises
        ------
        ConfigError
            If an option does not suit the targets.
        """
        return self

    @abstractmethod
    def output_size(self, num_classes: int) -> int:
        """Return how many outputs a model has for each sample.

        Parameters
        ----------
        num_classes
            Classes of the data set's labels, K; or its number of targets, k.
        """

    def output_shape(self, num_classes: int) -> tuple[int, ...]:
        """Return the shape of a model's outputs for one sample."""
        return (self.output_size(num_classes),)

    def prediction_size(self, num_classes: int) -> int:
        """Return how many numbers `predict` gives for each sample."""
        return self.output_size(num_classes)

    def metric_input_size(self, num_classes: int) -> int:
        """Return how many numbers `metric_inputs` gives for each sample."""
        return self.prediction_size(num_classes)

    def check_outputs(
        self, shape: Sequence[int], samples: int, num_classes: int | None = None
    ) -> str:
        """Return what is wrong with the shape of a model's outputs; empty if nothing.

        Parameters
        ----------
        shape
            Of the outputs.
        samples
            Samples n in the batch; there must be one row for each.
        num_classes
            Classes K or targets k, where known: then the number of outputs counts too.
        """
        size = None if num_classes is None else self.output_size(num_classes)
        if len(shape) == 2 and shape[0] == samples and size in (None, shape[1]):
            return ""
        return (
            f"{self.outputs} of shape {tuple(shape)} for {samples} sample(s); it must "
            f"be ({samples}, {self.outputs if size is None else size}), one row for "
            "each sample"
        )

    @abstractmethod
    def loss(
        self,
        outputs: "Tensor",
        targets: "Tensor",
        reduction: Literal["mean", "sum"] = "mean",
    ) -> "Tensor":
        """Return the loss of a batch, a Tensor () that gradients can go through.

        Parameters
        ----------
        outputs : (n, outputs)
            Of the model.
        targets : (n,), (n, k) or (n, *shape)
            Of the samples; see `target_kind`.
        reduction
            Whether it is the mean or the sum over the samples.
        """

    def sample_losses(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return the loss of each sample, (n,); arguments are those of `loss`.

        By default from `loss`, by torch's own batching.
        """
        from torch.func import vmap

        def alone(output: "Tensor", target: "Tensor") -> "Tensor":
            return self.loss(output[None], target[None], "sum")

        found: Tensor = vmap(alone)(outputs, targets)
        return found

    @abstractmethod
    def predict(self, outputs: "Tensor") -> "Tensor":
        """Return what outputs (n, outputs) predict, (n, predictions)."""

    def metric_inputs(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return what `metrics` needs of each sample, (n, metric inputs).

        By default what `predict` does. Where a sample has many outputs, sums over them
        are enough for most metrics, and take less memory.
        """
        return self.predict(outputs)

    @abstractmethod
    def metrics(self, predictions: Floats, targets: Any) -> Mapping[str, float]:
        """Return every metric of `higher_is_better` on a set of samples.

        Called for each client, and once for the samples of all clients together.

        Parameters
        ----------
        predictions : (n, metric inputs)
            From `metric_inputs`, in float32; n is at least 1.
        targets : (n,) or (n, k)
            Of the same samples; of dense ones nothing, (n, 0).

        Returns
        -------
        Mapping
            From a metric's name to its value; NaN where it is undefined.
        """

    def metric_pair(
        self, predictions: Floats, targets: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return predictions and targets as added metrics take them.

        By default the arguments of `metrics`; see `metrics.base.Metric.compute`.
        """
        return predictions, targets

    def counts(self, predictions: Floats, targets: Any) -> Sequence[int]:
        """Return a client's `client_counts`; arguments as of `metrics`, n may be 0."""
        return ()

    def record_statistics(
        self,
        samples: Floats,
        counts: Floats,
    ) -> Mapping[str, int]:
        """Return what the record of an evaluation has under the keys `statistics`.

        Parameters
        ----------
        samples : (m,)
            Evaluated samples of each client.
        counts : (m, len(client_counts))
            What `counts` gave for each client.
        """
        return {}

    def remarks(self, summary: Mapping[str, Any]) -> list[str]:
        """Return what a reader of a finished run's metrics should know.

        Parameters
        ----------
        summary
            Of the run; it has the last record's `statistics`.
        """
        return []


def weighted_loss(
    task: Task,
    outputs: "Tensor",
    targets: "Tensor",
    weights: "Tensor | None",
    reduction: Literal["mean", "sum"] = "mean",
) -> "Tensor":
    """Return the loss of a batch whose samples may have weights, a Tensor ().

    Parameters
    ----------
    task, outputs, targets, reduction
        See `Task.loss`.
    weights : (n,)
        What the loss of each sample is multiplied by, 1 on average over all samples of
        the client; `None` if all weigh the same.
    """
    if weights is None:
        return task.loss(outputs, targets, reduction)
    losses = task.sample_losses(outputs, targets) * weights
    return losses.sum() if reduction == "sum" else losses.mean()


class SampleTask(Task):
    """A task whose loss is that of its samples, which `sample_losses` has to give."""

    @abstractmethod
    def sample_losses(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return the loss of each sample, (n,); arguments are those of `loss`."""

    def loss(
        self,
        outputs: "Tensor",
        targets: "Tensor",
        reduction: Literal["mean", "sum"] = "mean",
    ) -> "Tensor":
        """Return the mean or the sum of the samples' losses; see `Task.loss`."""
        losses = self.sample_losses(outputs, targets)
        return losses.sum() if reduction == "sum" else losses.mean()


T = TypeVar("T", bound=Task)


def mean_of_known(losses: "Tensor", known: "Tensor") -> "Tensor":
    """Return the mean loss (n,) of each sample's targets that are there.

    Parameters
    ----------
    losses, known : (n, k)
        Finite everywhere, and whether the target is there.
    """
    from torch import where

    total = where(known, losses, 0).sum(dim=1)
    return total / known.sum(dim=1).clamp(min=1)


def bound(task: T, **values: Any) -> T:
    """Return a copy of a frozen task with fields that follow from a data set."""
    made = copy(task)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def with_metrics(task: T, targets: Targets, added: Sequence[Metric]) -> T:
    """Return the task with further metrics, made for the targets of a data set.

    Raises
    ------
    ConfigError
        If the task has a metric of the same name, or gives no predictions of samples,
        as those of dense targets do; if samples lack targets; or a metric does not
        suit.
    """
    if not added:
        return task
    if task.target_kind == "dense":
        msg = (
            f"metrics: a task with {task.target_kind} targets keeps sums of a sample's "
            "positions, not predictions that other metrics could take; leave it out, "
            "or derive a task that has the metric"
        )
        raise ConfigError(msg)
    if targets.incomplete:
        msg = (
            "metrics: samples of this data set lack some targets, and metrics of "
            "libraries need all; leave it out, or derive a task that has the metric"
        )
        raise ConfigError(msg)
    made: dict[str, Metric] = {}
    for metric in added:
        if metric.label in (LOSS, *task.higher_is_better, *made):
            msg = (
                f"metrics: {metric.label!r} is there already; give the added one "
                "another label"
            )
            raise ConfigError(msg)
        made[metric.label] = metric.for_targets(targets.kind, targets.size)
    return bound(task, added=tuple(made.values()))


def check_classes(name: str, num_classes: int) -> None:
    """Raise `ConfigError` if there are too few classes for the task of a name."""
    if num_classes < 2:
        msg = (
            f"task {name!r}: the data set has {num_classes} class(es); it needs 2 or "
            "more"
        )
        raise ConfigError(msg)


def check_finite(predictions: Floats) -> None:
    """Raise `TrainingError` if a prediction is not finite."""
    if not np.isfinite(predictions).all():
        msg = (
            "some predictions are not finite, so training has diverged; lower the "
            "learning rates, or the penalty if it is large"
        )
        raise TrainingError(msg)


tasks: Registry[Callable[..., Task]] = Registry("task", __package__)
