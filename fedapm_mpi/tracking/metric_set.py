"""The metrics of a run, as its directory states them: no code of its task is needed."""

import json
from pathlib import Path

from fedapm_mpi.tasks import MetricSet
from fedapm_mpi.utils.atomic_io import open_regular

KEY = "metrics"
"""Where ``provenance.json`` keeps them."""


def read_metric_set(run: Path) -> MetricSet:
    """Return the metrics of a run.

    Where its ``provenance.json`` states none, as in runs of older versions, they are
    those of classification.
    """
    try:
        with open_regular(run / "provenance.json") as file:
            values = json.loads(file.read().decode("utf-8"))[KEY]
        return MetricSet.from_plain(values)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        from fedapm_mpi.tasks.classification import Classification

        return Classification().metric_set()
