"""Damaged and hostile data sets: a `DataError`, or exactly what was written."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import MANIFEST, encode_manifest, read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import DataError
from fedapm_mpi.training.runner import train
from tests.support.data.resealing import make_old, reseal
from tests.support.data.toy_data import write_features
from tests.support.processes.cli_runs import experiment

FLIPS = 500
"""Of single bits, for each way in which samples are stored."""


def everything(directory):
    """Return all arrays of a data set as bytes, read in the order of clients."""
    manifest = read_manifest(directory)
    reader, found = ShardReader(manifest), []
    try:
        for client in range(manifest.num_clients):
            for split in manifest.counts:
                part = reader.read(client, split)
                for array in (*part.inputs.values(), *part.lengths.values()):
                    found.append((array.dtype, array.shape, array.tobytes()))
                found.append((part.labels.dtype, part.labels.tobytes()))
    finally:
        reader.close()
    return found


@pytest.fixture
def table():
    rng = np.random.default_rng(3)
    x = rng.integers(0, 4, (60, 5, 3)).astype(np.float32)
    return Table(
        "small",
        [column("x", x, lengths=rng.integers(1, 6, 60)), column("n", np.arange(60.0))],
        rng.integers(0, 3, 60),
        ["a", "b", "c"],
    )


@pytest.fixture
def made(tmp_path, table):
    return write(tmp_path / "data", table)


def write(directory, table, compression=None):
    parts = np.split(np.arange(60), 6)
    splits = {"train": [p[:6] for p in parts], "test": [p[6:] for p in parts]}
    write_dataset(directory, table, splits, shards=2, compression=compression)
    return directory


@pytest.mark.parametrize("kind", ["plain", "gzip", "lzf", "old"])
def test_a_flipped_bit_of_a_shard_changes_nothing_or_is_an_error(tmp_path, table, kind):
    plain = kind in ("plain", "old")
    made = write(tmp_path / "data", table, None if plain else kind)
    if kind == "old":
        make_old(made)
    whole = everything(made)
    path = made / read_manifest(made).files[0].name
    raw = path.read_bytes()
    rng = np.random.default_rng(17)
    refused = 0
    for bit in rng.integers(0, 8 * len(raw), FLIPS if kind != "lzf" else FLIPS // 5):
        broken = bytearray(raw)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        try:
            assert everything(made) == whole, bit
        except DataError as error:
            refused += 1
            assert path.name in str(error)  # noqa: PT017
            assert "copy it again or prepare the data set again" in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
    assert refused > FLIPS // 10
    path.write_bytes(raw)
    assert everything(made) == whole


def test_damage_names_the_shard_the_client_and_the_split(tmp_path, table):
    large = column("x", np.zeros((60, 10_000), np.float32))
    made = write(tmp_path / "data", dataclasses.replace(table, columns=[large]))
    manifest = read_manifest(made)
    path = made / manifest.files[1].name
    with h5py.File(path, "r", locking=False) as file:
        start = file["test/inputs/x"].id.get_offset()
    with path.open("r+b") as file:
        file.seek(start + 40_000)
        file.write(b"\x01")
    reader = ShardReader(manifest)
    reader.check(range(6))
    words = rf"{path.name} is damaged where the test samples of client 3 \(client 3\)"
    with pytest.raises(DataError, match=words):
        reader.read(3, "test")
    assert len(reader.read(0, "test").labels) == 4
    reader.close()


def test_a_shard_that_is_overwritten_by_another(made, tmp_path, table):
    """Of the same size: its every byte is sound in itself."""
    other = Table("small", table.columns, (table.labels + 1) % 3, table.classes)
    write(tmp_path / "other", other)
    for name in ("shard-00000-of-00002.h5", "shard-00001-of-00002.h5"):
        shutil.copy(tmp_path / "other" / name, made / name)
    with pytest.raises(DataError, match="its table of checksums has changed"):
        ShardReader(read_manifest(made)).check([0])


@pytest.mark.parametrize("old", [False, True])
def test_a_flipped_bit_of_the_manifest_is_an_error_or_harmless(made, monkeypatch, old):
    """Every bit; of an old one, which has no checksum, it is not found out always."""
    if old:
        make_old(made)
    raw = (made / MANIFEST).read_bytes()
    whole = read_manifest(made)
    for bit in range(0, 8 * len(raw), 7 if old else 1):
        broken = bytearray(raw)
        broken[bit // 8] ^= 1 << bit % 8
        monkeypatch.setattr("fedapm_mpi.data.manifest._raw", lambda path: bytes(broken))  # noqa: B023
        try:
            found = read_manifest(made)
        except DataError as error:
            assert str(made / MANIFEST) in str(error)  # noqa: PT017
            continue
        assert old or encode_manifest(found) == encode_manifest(whole), bit


def test_a_manifest_that_is_edited_must_lose_no_checksum(made):
    path = made / MANIFEST
    tree = json.loads(path.read_text())
    assert list(tree)[-1] == "checksum"
    del tree["checksum"]
    path.write_text(json.dumps(tree))
    with pytest.raises(DataError, match="lost the checksum with which it was written"):
        read_manifest(made)
    path.write_text(json.dumps({**tree, "checksums": "0" * 64}))
    with pytest.raises(DataError, match="a key 'checksums', which is unknown"):
        read_manifest(made)


def test_an_old_data_set_gives_the_same_samples(made):
    whole = everything(made)
    make_old(made)
    manifest = read_manifest(made)
    assert not any(file.block_bytes for file in manifest.files)
    assert everything(made) == whole
    reader = ShardReader(manifest)
    assert [s.name for s in reader.unhashed([0, 1, 5])] == [
        s.name for s in manifest.files
    ]
    reader.read(0, "train")
    assert reader.unhashed([0, 1, 5]) == [manifest.files[1]]
    assert reader.rows(0, "train") is None
    reader.close()


@pytest.mark.parametrize("value", [3, -1, -100, 2**31 - 1, -(2**31)])
def test_a_label_that_is_no_class(made, value):
    """Torch would leave out the samples of class -100 without a word."""
    reseal(made, 1, lambda file: file["train/label"].__setitem__(8, value))
    reader = ShardReader(read_manifest(made))
    words = (
        r"of the train samples of client 4 \(client 4\), the label in row 2 is "
        f"{value}, not 0 to 2"
    )
    with pytest.raises(DataError, match=words):
        reader.read(4, "train")
    assert reader.read(4, "test").labels.max() < 3
    reader.close()


def test_a_length_that_cannot_be(made):
    reseal(made, 0, lambda file: file["test/length/x"].__setitem__(0, 6))
    reader = ShardReader(read_manifest(made))
    with pytest.raises(DataError, match="the length of 'x' in row 0 is 6, not 0 to 5"):
        reader.read(0, "test")
    reader.close()


def test_a_shard_may_be_a_link_to_a_file_but_no_pipe(made, tmp_path):
    whole = everything(made)
    path = made / "shard-00000-of-00002.h5"
    shutil.move(path, tmp_path / "aside")
    path.symlink_to(tmp_path / "aside")
    assert everything(made) == whole
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="is not a file"):
        everything(made)
    (made / MANIFEST).unlink()
    os.mkfifo(made / MANIFEST)
    with pytest.raises(DataError, match="is not a file"):
        everything(made)


def test_writing_follows_no_links_that_lie_there(tmp_path, table):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "data").mkdir()
    for name in ("shard-00000-of-00002.h5.partial", f"{MANIFEST}.partial",
                 "shard-00000-of-00002.h5"):  # fmt: skip
        (tmp_path / "data" / name).symlink_to(precious)
    made = write(tmp_path / "data", table)
    assert precious.read_text() == "mine"
    assert not any(path.is_symlink() for path in made.iterdir())
    assert len(everything(made)) == 6 * 2 * 4


@pytest.mark.parametrize("what", ["train/label", "train/inputs/x", "test/label"])
@pytest.mark.parametrize("old", [False, True])
def test_training_refuses_what_has_changed(tmp_path, what, old):
    """Also where a run is resumed: it is read again then."""
    data = tmp_path / "data"
    manifest = write_features(data)
    config = validate(experiment(data, rounds=2), "test")
    assert train(Serial(), config, directory=tmp_path / "run", progress="none") == 0
    if old:
        make_old(data)
        assert (
            train(Serial(), config, directory=tmp_path / "as-old", progress="none") == 0
        )
        digests = [
            (tmp_path / name / "final/digest.txt").read_text()
            for name in ("run", "as-old")
        ]
        assert digests[0] == digests[1]
    path = Path(data) / manifest.files[0].name
    with h5py.File(path, "r", locking=False) as file:
        start = file[what].id.get_offset()
    raw = bytearray(path.read_bytes())
    raw[start] ^= 1
    path.write_bytes(raw)
    words = "has changed since it was written" if old else "is damaged"
    with pytest.raises(DataError, match=f"{path.name} {words}") as caught:
        train(Serial(), config, directory=tmp_path / "again", progress="none")
    assert caught.value.exit_code == 3
