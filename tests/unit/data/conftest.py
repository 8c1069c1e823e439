"""A table of two inputs, its splits, and the data set written of them."""

import numpy as np
import pytest

from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset

N, M = 60, 5


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return Table(
        dataset="made",
        columns=[
            column(
                "image",
                rng.integers(0, 256, (N, 1, 4, 4), np.uint8),
                scale=1 / 127.5,
                shift=-1.0,
            ),
            column(
                "sound",
                rng.normal(size=(N, 7, 2)).astype(np.float16),
                lengths=rng.integers(1, 8, N),
            ),
        ],
        labels=rng.integers(0, 3, N),
        classes=["a", "b", "c"],
    )


@pytest.fixture
def splits():
    rows = np.random.default_rng(1).permutation(N)
    parts = [np.sort(part) for part in np.split(rows, [5, 20, 33, 40])]
    return {
        "train": [part[2:] for part in parts],
        "test": [part[:1] for part in parts],
        "val": [part[1:2] for part in parts],
    }


@pytest.fixture
def made(tmp_path, table, splits):
    return write_dataset(tmp_path / "data", table, splits, seed=3, shards=2)
