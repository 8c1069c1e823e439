"""``fedapm verify``: damage is found, also what a checksum made after it would hide."""

import argparse
import dataclasses
import hashlib
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.pipeline import plan, prepare
from fedapm_mpi.commands import verify as command
from fedapm_mpi.errors import DataError
from fedapm_mpi.manifest import MANIFEST, encode_manifest, read_manifest
from fedapm_mpi.shards import Table, column, write_dataset
from fedapm_mpi.verification import join, repeats, verify


def run(directory, *words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(directory), *words]))


@pytest.fixture
def made(tmp_path):
    """A data set of six clients in three shards, some of whom lack an input."""
    rng = np.random.default_rng(1)
    acc, gyro = rng.normal(size=(2, 120, 6, 2)).astype(np.float32)
    raw = tmp_path / "raw.npz"
    np.savez(raw, x_acc=acc, x_gyro=gyro, y=np.arange(120) % 3,
             client=np.arange(120) // 20)  # fmt: skip
    values = {"shift": "missing", "seed": 4, "shards": 3, "val": 0.2}
    prepare(plan("arrays", values), raw, tmp_path / "to")
    return tmp_path / "to"


def seal(directory):
    """Write sizes and checksums of the shards as they are now."""
    manifest = read_manifest(directory)
    files = []
    for shard in manifest.files:
        raw = (directory / shard.name).read_bytes()
        sha = hashlib.sha256(raw).hexdigest()
        files.append(dataclasses.replace(shard, bytes=len(raw), sha256=sha))
    changed = dataclasses.replace(manifest, files=tuple(files))
    (directory / MANIFEST).write_bytes(encode_manifest(changed))


def changed(directory, name, change):
    """Change an array of the middle shard, as another writer of shards might."""
    with h5py.File(directory / read_manifest(directory).files[1].name, "r+") as file:
        values = file[name][:]
        change(values)
        file[name][...] = values
    seal(directory)


def test_a_sound_data_set(made, capsys):
    assert run(made) == 0
    out = capsys.readouterr().out
    assert out.count("as written and as the manifest says") == 3
    assert "clients 2 to 3, 40 samples" in out
    assert "no sample is in two splits or with two clients" in out


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_shard(made, damage):
    path = made / read_manifest(made).files[2].name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(raw if damage == "flip" else raw[:-1])
    with pytest.raises(DataError, match=path.name):
        run(made)


def first(value):
    def change(values):
        values[0] = value

    return change


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("train/label", first(3), "has train labels beyond 0 to 2"),
        ("test/label", first(-1), "has test labels beyond 0 to 2"),
        ("val/label", lambda y: y.__setitem__(0, (y[0] + 1) % 3), "of val labels"),
        ("train/inputs/acc", first(np.nan), "train values of 'acc' not finite"),
        ("test/length/gyro", first(7), "test lengths of 'gyro' beyond 6"),
        ("test/length/gyro", first(-1), "test lengths of 'gyro' beyond 6"),
        ("train/offset", lambda x: x.__setitem__(1, x[1] - 1), "train samples differ"),
    ],
)
def test_what_contradicts_the_manifest(made, name, change, words):
    changed(made, name, change)
    with pytest.raises(DataError, match=words) as caught:
        run(made)
    assert read_manifest(made).files[1].name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_who_lacks_an_input_against_the_manifest(made):
    manifest = read_manifest(made)
    lacking = manifest.lacking["gyro"]
    has = next(i for i in range(6) if i not in lacking)
    for wrong, words in (
        (lacking[1:], f"client {lacking[0]} .* lacks 'gyro'"),
        (tuple(sorted({*lacking, has})), f"client {has} .* has 'gyro'"),
    ):
        other = dataclasses.replace(
            manifest, lacking=manifest.lacking | {"gyro": wrong}
        )
        (made / MANIFEST).write_bytes(encode_manifest(other))
        with pytest.raises(DataError, match=words):
            run(made)


def test_many_faults_are_counted(made):
    for split in ("train", "test", "val"):
        for key in ("length/acc", "length/gyro"):
            changed(made, f"{split}/{key}", lambda x: x.fill(9))
    with pytest.raises(DataError, match="; and 4 more"):
        run(made)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans()),
        min_size=1,
        max_size=30,
    )
)
def test_repeats_against_a_count_by_content(tmp_path_factory, rows):
    """`rows`: content, client, whether it is for testing."""
    rows = [*rows, *[(9, i, False) for i in range(3)]]  # each has something to train on
    x = np.array([[a] for a, _, _ in rows], np.float32)
    x[-3:, 0] = [91, 92, 93]
    where = [[], []]
    for test in (False, True):
        for client in range(3):
            own = [k for k, row in enumerate(rows) if row[1:] == (client, test)]
            where[test].append(np.array(own, int))
    table = Table("t", [column("x", x)], np.zeros(len(x), int), ["one"])
    directory = tmp_path_factory.mktemp("repeats")
    write_dataset(directory, table, {"train": where[0], "test": where[1]})
    manifest = read_manifest(directory)
    found = repeats(manifest, join([own for _, own in verify(manifest)]))
    cells = Counter((float(x[k, 0]), *row[1:]) for k, row in enumerate(rows))
    assert found.within == sum(n - 1 for n in cells.values())
    contents = {a: [c for c in cells if c[0] == a] for a, *_ in cells}
    splits = any(len({c[2] for c in own}) > 1 for own in contents.values())
    clients = any(len({c[1] for c in own}) > 1 for own in contents.values())
    told = " ".join(found.apart)
    assert bool(found.apart) == (splits or clients)
    if clients and not splits:
        assert "with several clients" in told
        assert "several splits" not in told
    if splits and not clients:
        assert "with several clients" not in told


@pytest.mark.parametrize("kind", ["split", "client", "within"])
def test_samples_that_are_there_twice(tmp_path, kind, capsys):
    x = np.arange(12, dtype=np.float32)[:, None]
    train = [np.array([0, 1, 2]), np.array([3, 4])]
    test = [np.array([5]), np.array([6])]
    if kind == "split":
        test[0] = np.array([5, 1])
    elif kind == "client":
        train[1] = np.array([3, 4, 1])
    else:
        train[1] = np.array([3, 4, 4])
    table = Table("t", [column("x", x)], np.zeros(12, int), ["one"])
    write_dataset(tmp_path / "to", table, {"train": train, "test": test})
    if kind == "within":
        assert run(tmp_path / "to") == 0
        assert "1 samples equal another one of the same" in capsys.readouterr().out
        return
    words = {
        "split": "1 samples are in several splits .*train of client 0 and test of "
        "client 0",
        "client": "1 samples are with several clients .*train of client 0 and train "
        "of client 1",
    }
    with pytest.raises(DataError, match=words[kind]):
        run(tmp_path / "to")
    capsys.readouterr()
    assert run(tmp_path / "to", "--allow-repeats") == 0
    assert "1 samples are" in capsys.readouterr().out


def test_samples_that_differ_in_length_alone_are_no_repeats(tmp_path):
    still = column("x", np.zeros((4, 3, 1), np.float32), lengths=np.array([1, 2, 3, 2]))
    table = Table("t", [still], np.zeros(4, int), ["one"])
    rows = {
        "train": [np.array([0]), np.array([1])],
        "test": [np.array([2]), np.array([], int)],
    }
    manifest = write_dataset(tmp_path / "to", table, rows)
    found = repeats(manifest, join([own for _, own in verify(manifest)]))
    assert (found.apart, found.within) == ([], 0)
    rows["test"][1] = np.array([3])
    manifest = write_dataset(tmp_path / "again", table, rows)
    found = repeats(manifest, join([own for _, own in verify(manifest)]))
    assert "1 samples are in several splits" in found.apart[0]


def test_clients_that_overlap_on_purpose(tmp_path, capsys):
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "raw.npz", x_a=rng.normal(size=(300, 2)), y=np.arange(300) % 3)
    values = {"clients": 5, "split": "official", "partitioner": "official-dirichlet"}
    prepare(plan("arrays", values), Path(tmp_path / "raw.npz"), tmp_path / "to")
    assert run(tmp_path / "to") == 0
    assert "samples are with several clients" in capsys.readouterr().out
