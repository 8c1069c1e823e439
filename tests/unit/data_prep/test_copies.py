"""Samples that several clients have: copied for each, and in one split for all."""

from dataclasses import replace

import numpy as np
import pytest

from data_prep.copies import own_copies
from fedapm_mpi.cli import inspect as inspect_command
from fedapm_mpi.cli import verify as verify_command
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.target import TargetValues
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import ConfigError, DataError
from tests.support.preparation import N, command, prepare

ALL = ("partitioner=all-samples", "clients=3")


@pytest.fixture
def table():
    """Ten samples with all that a table can have."""
    rng = np.random.default_rng(0)
    return Table(
        "made",
        [
            column("x", rng.normal(size=(10, 4)).astype(np.float32)),
            column("t", rng.normal(size=(10, 3)), lengths=rng.integers(1, 4, 10)),
        ],
        rng.integers(0, 2, 10),
        ["a", "b"],
        target=TargetValues("real", ("y",), rng.normal(size=(10, 1))),
    )


SPLITS = {
    "train": [np.array([4, 0, 9]), np.array([0, 1]), np.array([7])],
    "test": [np.array([1]), np.array([], int), np.array([4, 0])],
}


def test_copies_are_written_as_the_samples_are(table, tmp_path):
    copies = own_copies(table, SPLITS, trained=2, seed=3)
    rows = np.concatenate([r for parts in copies.splits.values() for r in parts])
    assert sorted(rows.tolist()) == list(range(9))
    one = write_dataset(tmp_path / "a", table, SPLITS)
    two = write_dataset(tmp_path / "b", copies.table, copies.splits)
    assert [f.sha256 for f in one.files] == [f.sha256 for f in two.files]
    assert one.sha256 == two.sha256


def test_copies_have_one_client_each(table):
    _, splits, clients = own_copies(table, SPLITS, trained=2, seed=3)
    assert (clients.number, clients.seed) == (3, 3)
    for split, parts in splits.items():
        for client, rows in enumerate(parts):
            assert (clients.owner[rows] == client).all()
            trained = split == "train" and client < 2
            assert (clients.training[rows] == trained).all()


def test_all_of_a_sample_is_copied(table):
    weighted = replace(table, weights=np.arange(1.0, 11), numbers=np.arange(10) + 50)
    made, splits, _ = own_copies(weighted, SPLITS, trained=3, seed=0)
    for split, parts in SPLITS.items():
        for client, rows in enumerate(parts):
            own = splits[split][client]
            assert (made.weights[own] == rows + 1).all()
            assert (made.numbers[own] == rows + 50).all()
            assert (made.target.values[own] == table.target.values[rows]).all()
            assert (
                made.columns[1].lengths[own] == table.columns[1].lengths[rows]
            ).all()


@pytest.mark.parametrize("value", [np.nan, 1e300])
def test_a_message_names_the_sample_and_not_its_copy(table, value):
    x = np.zeros((10, 4))
    x[4, 2] = value
    odd = replace(table, columns=[column("x", x)])
    made, splits, _ = own_copies(odd, SPLITS, trained=3, seed=0)
    assert made.columns[0].fetch(splits["train"][1]).shape == (2, 4)
    assert made.columns[0].fetch(splits["test"][1]).shape == (0, 4)
    with pytest.raises(DataError, match=r"'x' .* sample 4"):
        made.columns[0].fetch(splits["test"][2])


def rows_of(manifest):
    """Return split name to the numbers of each client's samples."""
    reader = ShardReader(manifest)
    found = {
        split: [reader.rows(k, split).tolist() for k in range(manifest.num_clients)]
        for split in manifest.counts
    }
    reader.close()
    return found


@pytest.mark.parametrize(
    "extra",
    [
        ("split=random", "val=0.2", "seed=3"),
        ("split=own",),
        ("split=official",),
        ("group=segment",),
        ("keep.fraction=0.3", "keep.rest=val"),
        ("new_clients=0.34",),
        ("shift=noise",),
    ],
    ids=str,
)
def test_all_samples_are_split_once(origin, tmp_path, extra, capsys):
    manifest = prepare("arrays", origin, tmp_path / "to", *ALL, *extra)
    found = rows_of(manifest)
    seen = []
    for parts in found.values():
        assert parts[0]
        assert parts[1] == parts[0] == parts[2]
        seen += parts[0]
    assert len(seen) == len(set(seen)) == N - (extra == ("split=official",))
    assert manifest.partitioner["one_split"] is True
    capsys.readouterr()
    assert command(verify_command, tmp_path / "to") == 0
    assert "no sample is in two splits\n" in capsys.readouterr().out
    command(inspect_command, tmp_path / "to")
    assert f"distinct={N}, one_split=True" in capsys.readouterr().out


def test_all_samples_of_one_client_are_a_partition_by_itself(origin, tmp_path):
    one = prepare("arrays", origin, tmp_path / "a", ALL[0], "clients=1")
    other = prepare("arrays", origin, tmp_path / "b", "partitioner=iid", "clients=1")
    assert rows_of(one) == rows_of(other)
    assert "one_split" not in one.partitioner
    with pytest.raises(ConfigError, match="clients=N"):
        prepare("arrays", origin, tmp_path / "c", ALL[0])
