"""Shards and manifest: what is written is read back, and damage is told of."""

import json
import os
import resource
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapm_mpi.data import table as tables
from fedapm_mpi.data.manifest import MANIFEST, InputSpec, read_manifest
from fedapm_mpi.data.reader import ShardReader, verify_checksums
from fedapm_mpi.data.table import Table, column, shard_ranges
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import DataError
from tests.support.data.resealing import reseal

N, M = 60, 5


def names(directory):
    return sorted(path.name for path in Path(directory).iterdir())


def test_what_is_written_is_read_back(made, table, splits):
    reader = ShardReader(made)
    reader.check(range(M))
    everything = np.arange(N)
    for split, parts in splits.items():
        for client, rows in enumerate(parts):
            got = reader.read(client, split)
            assert got.labels.dtype == np.int64
            np.testing.assert_array_equal(got.labels, table.labels[rows])
            for c in table.columns:
                expected = c.fetch(everything)[rows]
                assert got.inputs[c.spec.name].dtype == expected.dtype
                np.testing.assert_array_equal(got.inputs[c.spec.name], expected)
            assert list(got.lengths) == ["sound"]
            np.testing.assert_array_equal(
                got.lengths["sound"], table.columns[1].lengths[rows]
            )
    reader.close()


def test_samples_that_come_in_small_pieces(monkeypatch, made, table, splits):
    """As they do from some file systems, and beyond two gigabytes from all."""
    whole = os.preadv

    def little(descriptor, buffers, start):
        return whole(descriptor, [memoryview(buffers[0]).cast("B")[:7]], start)

    monkeypatch.setattr("fedapm_mpi.data.block_checksums.os.preadv", little)
    test_what_is_written_is_read_back(made, table, splits)


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


def test_a_shard_that_is_cut_while_it_is_read_is_an_error(made):
    reader = ShardReader(made)
    reader.read(0, "train")
    path = Path(made.directory) / made.files[0].name
    with path.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(DataError, match=r"damaged .*it ends before"):
        reader.read(0, "train")


@pytest.mark.parametrize("damage", ["missing", "truncated", "other", "not hdf5"])
def test_damaged_shard_is_named(made, damage):
    shard = made.files[1]
    path = Path(made.directory) / shard.name
    raw = path.read_bytes()
    match damage:
        case "missing":
            path.unlink()
        case "truncated":
            path.write_bytes(raw[:-100])
        case "other":
            other = Path(made.directory, made.files[0].name).read_bytes()
            path.write_bytes(other[: len(raw)].ljust(len(raw), b"\0"))
        case "not hdf5":
            path.write_bytes(b"x" * len(raw))
    reader = ShardReader(made)
    reader.check([0])  # the other shard is whole
    for act in (
        lambda: reader.check([M - 1]),
        lambda: reader.read(M - 1, "test"),
        lambda: verify_checksums(made),
    ):
        with pytest.raises(DataError, match=shard.name):
            act()
    reader.close()


def test_every_flipped_byte_is_found(made):
    path = Path(made.directory) / made.files[0].name
    raw = path.read_bytes()
    for at in range(0, len(raw), 97):
        broken = bytearray(raw)
        broken[at] ^= 0x10
        path.write_bytes(broken)
        with pytest.raises(DataError, match="has changed since"):
            verify_checksums(made)
        # Without checksums, reading gives samples or a DataError, never a crash.
        reader = ShardReader(made)
        try:
            for split in made.counts:
                reader.read(0, split)
        except DataError as error:
            assert path.name in str(error)  # noqa: PT017
        finally:
            reader.close()
    path.write_bytes(raw)
    verify_checksums(made)


def test_shard_that_contradicts_the_manifest(made):
    def change(file):
        offset = file["train"]["offset"]
        offset[1] = offset[1] + 1

    reseal(made.directory, 0, change)
    with pytest.raises(DataError, match="numbers of train samples differ"):
        ShardReader(read_manifest(made.directory)).check([0])


def test_unknown_split(made):
    with pytest.raises(DataError, match="no split 'dev'"):
        ShardReader(made).read(0, "dev")


def edited(change):
    """Return what changes a manifest as an old one: nothing has a checksum yet."""

    def edit(path):
        tree = json.loads(path.read_text())
        del tree["checksum"]
        for file in tree["files"]:
            del file["block_bytes"], file["block_sums"]
        change(tree)
        path.write_text(json.dumps(tree))

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_text("{"), "not valid JSON"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "not valid JSON"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "not valid JSON"),
        (lambda path: path.write_text("[]"), r"it is \[\], not an object"),
        (edited(lambda t: t.update(schema_version=99)), "schema version 99"),
        (edited(lambda t: t.pop("counts")), "lacks 'counts'"),
        (edited(lambda t: t["counts"].pop("test")), "lacks 'test'"),
        (edited(lambda t: t["splits"].remove("test")), "other splits than"),
        (edited(lambda t: t.update(num_clients=4)), "contradicts itself"),
        (edited(lambda t: t.update(num_clients="many")), "not a valid manifest"),
        (edited(lambda t: t["counts"]["train"].append(1)), "counts of train"),
        (edited(lambda t: t["counts"]["train"].__setitem__(0, 99)), "do not add up"),
        (edited(lambda t: t["label_counts"]["val"].pop()), "label counts of val"),
        (edited(lambda t: t["client_names"].pop()), "client names"),
        (edited(lambda t: t["files"].pop()), "the shards hold"),
        (edited(lambda t: t["files"].reverse()), "should begin with client 0"),
        (edited(lambda t: t["files"][0].update(name="../x")), "not a file name"),
        (edited(lambda t: t["inputs"][0].update(dtype="what")), "has the type 'what'"),
        (edited(lambda t: t["inputs"][0].update(dtype="O")), "has the type 'O'"),
        (edited(lambda t: t["inputs"][0].update(colour=1)), "not a valid manifest"),
        (edited(lambda t: t["inputs"].append(t["inputs"][0])), "input names repeat"),
        (edited(lambda t: t.update(classes=[])), "at least one client"),
        (edited(lambda t: t.update(lacking={"z": [0]})), "who lacks the input 'z'"),
        (edited(lambda t: t.update(lacking={"signal": [99]})), "who lacks the input"),
        (edited(lambda t: t.update(lacking={"signal": [1, 0]})), "who lacks the input"),
        (edited(lambda t: t.update(lacking=[1])), "not a valid manifest"),
    ],
)
def test_broken_manifest(made, edit, message):
    path = Path(made.directory) / MANIFEST
    edit(path)
    with pytest.raises(DataError, match=message):
        read_manifest(made.directory)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    inputs = [column("x", np.zeros((4, 2)))]
    table = Table("t", inputs, np.array([0, 1, 0, 1]), ["a", "b"])
    train, test = [np.array([0]), np.array([1])], [np.array([2]), np.array([3])]
    directory = tmp_path_factory.mktemp("small")
    write_dataset(directory, table, {"train": train, "test": test})
    path = directory / MANIFEST
    return path, path.read_bytes()


@settings(max_examples=300)
@given(data=st.data())
def test_a_manifest_with_a_wrong_byte_is_harmless_or_a_data_error(small, data):
    path, whole = small
    raw = bytearray(whole)
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        read_manifest(path.parent)
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017


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


def test_many_shards_are_not_all_kept_open(made, monkeypatch):
    monkeypatch.setattr("fedapm_mpi.data.reader.MAX_OPEN_SHARDS", 1)
    reader = ShardReader(made)
    for _ in range(2):
        for client in range(M):
            assert len(reader.read(client, "test").labels) == 1
    reader.close()


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


def test_a_shard_that_is_open_when_python_ends(toy):
    """HDF5 closes it after the interpreter, whose reader it must not call then."""
    program = (
        "import ctypes, sys\n"
        "from fedapm_mpi.data.manifest import read_manifest\n"
        "from fedapm_mpi.data.reader import ShardReader\n"
        "reader = ShardReader(read_manifest(sys.argv[1]))\n"
        "print(len(reader.read(0, 'train').labels))\n"
        "for kept in (reader, *reader._open.values()):\n"
        "    ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))\n"  # nothing frees it
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, toy["features"]],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "10\n", "")
