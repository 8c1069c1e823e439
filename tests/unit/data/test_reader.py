"""Shards and manifest: what is written is read back, and damage is reported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapm_mpi.data.manifest import MANIFEST, read_manifest
from fedapm_mpi.data.reader import ShardReader, verify_checksums
from fedapm_mpi.data.table import Table, column
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


def test_many_shards_are_not_all_kept_open(made, monkeypatch):
    monkeypatch.setattr("fedapm_mpi.data.reader.MAX_OPEN_SHARDS", 1)
    reader = ShardReader(made)
    for _ in range(2):
        for client in range(M):
            assert len(reader.read(client, "test").labels) == 1
    reader.close()


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
