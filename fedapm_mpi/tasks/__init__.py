"""What models predict: the loss, the predictions and their metrics."""

from fedapm_mpi.tasks.base import LOSS, MetricSet, Targets, Task, tasks

__all__ = ["LOSS", "MetricSet", "Targets", "Task", "tasks"]
