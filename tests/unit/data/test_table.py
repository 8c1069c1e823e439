"""Tables that are refused before anything is written."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedapm_mpi.data import table as tables
from fedapm_mpi.data.table import Table, column, label_counts, shard_ranges
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import DataError


def test_client_without_training_samples(tmp_path, table, splits):
    splits["train"][3] = np.empty(0, np.int64)
    with pytest.raises(DataError, match=r"client 3.*no training sample"):
        write_dataset(tmp_path, table, splits)


@pytest.mark.parametrize(
    ("labels", "lengths", "message"),
    [
        (np.array([0, 2]), None, "label 2 of sample 1"),
        (np.array([-1, 0]), None, "label -1 of sample 0"),
        (np.array([0.0, 1.0]), None, "one integer"),
        (np.array([0, 1]), np.array([1, 4]), "sample 1 has the length 4"),
        (np.array([0, 1]), np.array([1]), "one for each sample"),
    ],
)
def test_inconsistent_table(tmp_path, labels, lengths, message):
    inputs = [column("x", np.zeros((2, 3)), lengths=lengths)]
    rows = [np.array([0, 1])]
    with pytest.raises(DataError, match=message):
        write_dataset(
            tmp_path,
            Table("t", inputs, labels, ["a", "b"]),
            {"train": rows, "test": []},
        )


@pytest.mark.parametrize("names", [["train"], ["train", "test", "dev"]])
def test_splits_must_be_the_known_ones(tmp_path, table, splits, names):
    with pytest.raises(DataError, match="must be train, test and perhaps val"):
        write_dataset(tmp_path, table, dict.fromkeys(names, splits["train"]))


def test_splits_must_list_the_same_clients(tmp_path, table, splits):
    splits["test"].pop()
    with pytest.raises(DataError, match="same clients"):
        write_dataset(tmp_path, table, splits)


@given(
    st.lists(st.integers(0, 10**12), min_size=1, max_size=50),
    st.integers(1, 60) | st.none(),
)
def test_cut_covers_clients_in_order(sizes, shards):
    if shards is not None and shards > len(sizes):
        with pytest.raises(DataError, match="shards from 1 to"):
            shard_ranges(np.array(sizes), shards)
        return
    ranges = shard_ranges(np.array(sizes), shards)
    assert shards is None or len(ranges) == shards
    assert ranges[0][0] == 0
    assert ranges[-1][1] == len(sizes)
    assert all(first < stop for first, stop in ranges)
    assert all(a[1] == b[0] for a, b in pairwise(ranges))


def test_cut_balances_and_keeps_shards_small():
    sizes = np.full(1000, 2**20)
    ranges = shard_ranges(sizes, None)
    assert len(ranges) == 4  # 1000 MiB in files of at most 256
    assert {stop - first for first, stop in ranges} == {250}


@given(
    st.lists(st.lists(st.integers(0, 19), max_size=6), max_size=8), st.integers(1, 9)
)
def test_labels_are_counted_whatever_is_counted_at_a_time(parts, rows):
    labels = np.arange(20, dtype=np.int32) % 3
    made = Table("t", [], labels, ["a", "b", "c"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "COUNTED_ROWS", rows)
        counts = label_counts(made, [np.array(part, np.int64) for part in parts])
    assert counts.shape == (len(parts), 3)
    assert counts.tolist() == [
        [sum(row % 3 == label for row in part) for label in range(3)] for part in parts
    ]
