"""A data set whose batches leave one sample over, and a run on it."""

import numpy as np

from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset

CLASSES = ("left", "right", "up")


COUNTS = (9, 8, 12, 5)
"""Training samples; 9 and 5 leave one over in batches of 4."""


FEDAVG = {"name": "fedavg", "lr": 0.1, "batch_size": 4, "work": {"epochs": 2}}


def write(directory, counts=COUNTS):
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(len(counts)), np.array(counts) + 1)
    labels = rng.integers(0, 3, len(owner))
    x = rng.normal(size=(len(owner), 6)).astype(np.float32) + labels[:, None]
    rows = [np.flatnonzero(owner == i) for i in range(len(counts))]
    splits = {"train": [r[:-1] for r in rows], "test": [r[-1:] for r in rows]}
    table = Table("odd", [column("x", x.astype(np.float32))], labels, CLASSES)
    return write_dataset(directory, table, splits, shards=1)
