"""Further metrics of an evaluation, besides those of the task."""

from fedapm_mpi.metrics.base import Metric, metrics

__all__ = ["Metric", "metrics"]
