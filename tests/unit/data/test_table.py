"""Tables that are refused before anything is written."""

import numpy as np
import pytest

from fedapm_mpi.data.table import Table, column
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
