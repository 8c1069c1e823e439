"""What models predict: the loss, the predictions and their metrics."""

from fedapm_mpi.tasks.base import LOSS, MetricSet, Task, tasks

__all__ = ["LOSS", "MetricSet", "Task", "tasks"]
