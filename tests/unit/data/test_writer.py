"""What is written, and what is left where writing fails."""

import resource
import signal
from pathlib import Path

import numpy as np
import pytest

from fedapm_mpi.data import table as tables
from fedapm_mpi.data.manifest import MANIFEST, InputSpec, read_manifest
from fedapm_mpi.data.reader import verify_checksums
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import DataError

N, M = 60, 5


def names(directory):
    return sorted(path.name for path in Path(directory).iterdir())


def test_manifest_says_what_was_written(made, table, splits):
    assert (made.dataset, made.num_clients, made.seed) == ("made", M, 3)
    assert made.inputs == tuple(c.spec for c in table.columns)
    assert made.classes == ("a", "b", "c")
    assert made.client_names[4] == "client 4"
    for split, parts in splits.items():
        assert made.counts[split].tolist() == [len(rows) for rows in parts]
        for client, rows in enumerate(parts):
            histogram = np.bincount(table.labels[rows], minlength=3)
            assert made.label_counts[split][client].tolist() == histogram.tolist()
    assert [f.name for f in made.files] == [
        "shard-00000-of-00002.h5",
        "shard-00001-of-00002.h5",
    ]
    for client in range(M):
        first, stop = made.shard_of(client).clients
        assert first <= client < stop
    with pytest.raises(DataError, match="no client 5"):
        made.shard_of(5)


def test_same_input_gives_same_bytes(tmp_path, made, table, splits):
    again = write_dataset(tmp_path / "again", table, splits, seed=3, shards=2)
    assert again.sha256 == made.sha256
    assert again.files == made.files
    assert names(again.directory) == names(made.directory)


def test_blocks_do_not_change_the_bytes(tmp_path, monkeypatch, made, table, splits):
    monkeypatch.setattr(tables, "BLOCK_BYTES", 50)
    again = write_dataset(tmp_path / "again", table, splits, seed=3, shards=2)
    assert again.files == made.files


def test_rows_are_read_in_blocks(tmp_path, monkeypatch, splits):
    asked = []
    values = np.zeros((N, 10), np.float32)

    def take(rows):
        asked.append(len(rows))
        return values[rows]

    monkeypatch.setattr(tables, "BLOCK_BYTES", 400)
    spied = tables.Column(column("x", values).spec, take)
    write_dataset(tmp_path, Table("t", [spied], np.zeros(N, int), ["a"]), splits)
    assert max(asked) == 10
    assert sum(asked) == N


def test_a_finished_data_set_is_kept_unless_forced(made, table, splits):
    with pytest.raises(DataError, match="already holds"):
        write_dataset(made.directory, table, splits)
    forced = write_dataset(made.directory, table, splits, shards=1, force=True)
    assert names(made.directory) == [MANIFEST, forced.files[0].name]
    verify_checksums(forced)


def test_failed_rewrite_keeps_the_old_data_set(made, table, splits):
    broken = column("image", np.full((N, 1), np.nan))
    with pytest.raises(DataError, match="NaN or infinite in 60 of 60 samples"):
        write_dataset(
            made.directory,
            Table("t", [broken], table.labels, table.classes),
            splits,
            force=True,
        )
    assert read_manifest(made.directory).sha256 == made.sha256
    verify_checksums(made)
    assert len(names(made.directory)) == 3


def test_full_disk_leaves_nothing_finished(tmp_path, splits):
    big = column("x", np.zeros((N, 1000), np.float32))
    table = Table("t", [big], np.zeros(N, int), ["a"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(DataError, match=r"cannot write .*File too large"):
            write_dataset(tmp_path / "full", table, splits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert not (tmp_path / "full").exists()


def test_unwritable_directory(tmp_path, table, splits):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write the data set"):
        write_dataset(tmp_path / "file", table, splits)


def test_who_lacks_an_input_is_who_has_no_sample_of_it(tmp_path):
    """In no split; a client without a single sample of a length above 0."""
    rng = np.random.default_rng(2)
    lengths = rng.integers(0, 2, 24) * 3
    lengths[[0, 1, 2, 6, 7, 8]] = [0, 0, 0, 0, 3, 0]
    optional = tables.Column(
        InputSpec("a", (4, 1), "float32", ragged=True),
        lambda rows: np.zeros((len(rows), 4, 1), np.float32),
        lengths,
        optional=True,
    )
    always = column("b", np.zeros((24, 2), np.float32))
    table = Table("t", [optional, always], np.zeros(24, int), ["one"])
    rows = np.arange(24).reshape(8, 3)
    splits = {"train": list(rows[:, :2]), "test": list(rows[:, 2:])}
    manifest = write_dataset(tmp_path / "to", table, splits)
    expected = tuple(i for i in range(8) if not lengths[rows[i]].any())
    assert 0 in expected
    assert 2 not in expected
    assert manifest.lacking == {"a": expected}
    assert read_manifest(tmp_path / "to").lacking == manifest.lacking
