"""``fedapm verify``: damage is found, also what a checksum made after it would hide."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.pipeline import plan, prepare
from fedapm_mpi.cli import verify as verify_command
from fedapm_mpi.data.manifest import MANIFEST, encode_manifest, read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.verify import find_duplicates, join, verify
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import DataError
from tests.support.data.resealing import make_old, reseal
from tests.support.preparation import command


def run(directory, *words):
    return command(verify_command, directory, *words)


@pytest.fixture
def made(tmp_path):
    """A data set of six clients in three shards, some of which lack an input."""
    rng = np.random.default_rng(1)
    acc, gyro = rng.normal(size=(2, 120, 6, 2)).astype(np.float32)
    raw = tmp_path / "raw.npz"
    np.savez(raw, x_acc=acc, x_gyro=gyro, y=np.arange(120) % 3,
             client=np.arange(120) // 20)  # fmt: skip
    values = {"shift": "missing", "seed": 4, "shards": 3, "val": 0.2}
    prepare(plan("arrays", values), raw, tmp_path / "to")
    return tmp_path / "to"


def changed(directory, name, change):
    """Change an array of the middle shard, as another writer of shards might."""

    def edit(file):
        values = file[name][:]
        change(values)
        file[name][...] = values

    reseal(directory, 1, edit)


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
        (
            "train/label",
            first(3),
            "its train samples, the label in row 0 is 3, not 0 to 2",
        ),
        (
            "test/label",
            first(-1),
            "its test samples, the label in row 0 is -1, not 0 to 2",
        ),
        ("val/label", lambda y: y.__setitem__(0, (y[0] + 1) % 3), "of val labels"),
        ("train/inputs/acc", first(np.nan), "train values of 'acc' not finite"),
        (
            "test/length/gyro",
            first(7),
            "its test samples, the length of 'gyro' in row 0 is 7, not 0 to 6",
        ),
        (
            "test/length/gyro",
            first(-1),
            "test samples, the length of 'gyro' in row 0 is -1, not 0 to 6",
        ),
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
    found = find_duplicates(manifest, join([own for _, own in verify(manifest)]))
    cells = Counter((float(x[k, 0]), *row[1:]) for k, row in enumerate(rows))
    assert found.within == sum(n - 1 for n in cells.values())
    contents = {a: [c for c in cells if c[0] == a] for a, *_ in cells}
    splits = any(len({c[2] for c in own}) > 1 for own in contents.values())
    clients = any(len({c[1] for c in own}) > 1 for own in contents.values())
    assert found.apart == []  # each is another row of the source
    reported = " ".join(found.equal)
    assert bool(found.equal) == (splits or clients)
    if clients and not splits:
        assert "equal to another client's" in reported
        assert "another split" not in reported
    if splits and not clients:
        assert "another client's" not in reported


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
        assert "1 sample equals another one of the same" in capsys.readouterr().out
        return
    words = {
        "split": "1 sample is in several splits .*train of client 0, row 1 and test of "
        "client 0, row 1",
        "client": "1 sample is with several clients .*train of client 0, row 1 and "
        "train of client 1, row 1",
    }
    with pytest.raises(DataError, match=words[kind]):
        run(tmp_path / "to")
    capsys.readouterr()
    assert run(tmp_path / "to", "--allow-repeats") == 0
    assert "1 sample is" in capsys.readouterr().out


@pytest.mark.parametrize("leak", [False, True])
def test_one_split_of_all_clients(tmp_path, leak, capsys):
    """Clients may have the same samples, but one may not train on another's test."""
    x = np.arange(12, dtype=np.float32)[:, None]
    table = Table("t", [column("x", x)], np.zeros(12, int), ["one"])
    parts = {"train": [np.arange(8)] * 3, "test": [np.arange(8, 12)] * 3}
    if leak:
        parts["test"] = [np.arange(8, 12), np.array([8, 7]), np.array([8])]
        parts["train"] = [np.arange(7), np.arange(7), np.arange(8)]
    said = {"name": "all-samples", "one_split": True}
    write_dataset(tmp_path / "to", table, parts, partitioner=said)
    if leak:
        words = "not disjoint: 1 sample is in several splits .*test of client 1, row 7"
        with pytest.raises(DataError, match=words):
            run(tmp_path / "to")
        return
    assert run(tmp_path / "to") == 0
    out = capsys.readouterr().out
    assert "24 samples are with several clients" in out
    assert "no sample is in two splits\n" in out


def test_samples_that_differ_in_length_alone_are_no_repeats(tmp_path):
    still = column("x", np.zeros((4, 3, 1), np.float32), lengths=np.array([1, 2, 3, 2]))
    table = Table("t", [still], np.zeros(4, int), ["one"])
    rows = {
        "train": [np.array([0]), np.array([1])],
        "test": [np.array([2]), np.array([], int)],
    }
    manifest = write_dataset(tmp_path / "to", table, rows)
    found = find_duplicates(manifest, join([own for _, own in verify(manifest)]))
    assert found == ([], [], 0, [])
    rows["test"][1] = np.array([3])
    manifest = write_dataset(tmp_path / "again", table, rows)
    found = find_duplicates(manifest, join([own for _, own in verify(manifest)]))
    assert "1 sample is equal to one of another split" in found.equal[0]
    assert found.apart == []


@pytest.mark.parametrize("old", [False, True])
def test_equal_rows_of_a_table_are_no_fault(tmp_path, capsys, old):
    """As real tables have them: each row is placed once, some have equal numbers."""
    x = np.repeat(np.arange(4, dtype=np.float32), 3)[:, None]
    train = [np.array([0, 3, 6, 9]), np.array([1, 4, 7])]
    test = [np.array([2, 5]), np.array([8, 10, 11])]
    table = Table("t", [column("x", x)], np.zeros(12, int), ["one"])
    write_dataset(tmp_path / "to", table, {"train": train, "test": test}, shards=2)
    if old:
        make_old(tmp_path / "to")
    assert run(tmp_path / "to") == 0
    out = capsys.readouterr().out
    rows = ["", ""] if old else [", row 0", ", row 2"]
    assert "2 samples are equal to one of another split (the first: train of client 0"
    assert (
        f"train of client 0{rows[0]} and test of client 0{rows[1]}): possible leakage"
        in out
    )
    assert "1 sample equals another one of the same client and split" in out
    assert ("the origin of samples was not recorded" in out) == old
    assert ("no sample is in two splits or with two clients" in out) == (not old)


def test_rows_are_the_same_in_every_shard_layout(tmp_path):
    x = np.arange(12, dtype=np.float32)[:, None]
    parts = {"train": [np.array([7, 3]), np.array([0])], "test": [np.array([5])] * 2}
    table = Table("t", [column("x", x)], np.zeros(12, int), ["one"])
    for shards in (1, 2):
        write_dataset(tmp_path / "to", table, parts, shards=shards, force=True)
        reader = ShardReader(read_manifest(tmp_path / "to"))
        for split, own in parts.items():
            for client, rows in enumerate(own):
                assert reader.rows(client, split).tolist() == rows.tolist()
        reader.close()
