"""Shards on a disk of each node: copied once, hashed, and found again."""

import errno
import io
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.staging import stage_shards
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.utils.atomic_io import file_sha256

ALONE = [0]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six clients in three shards of two each."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(36, 4)).astype(np.float32)
    table = Table("six", [column("x", x)], np.arange(36) % 2, ["a", "b"])
    rows = np.split(np.arange(36), 6)
    parts = {"train": [own[:4] for own in rows], "test": [own[4:] for own in rows]}
    return write_dataset(
        tmp_path_factory.mktemp("data") / "six", table, parts, shards=3
    )


def names(folder):
    return sorted(path.name for path in Path(folder).glob("*/*"))


def test_a_node_gets_the_shards_of_its_clients(data, tmp_path):
    """The server hosts none; ranks 1 and 2 share a node, 3 is on another."""
    host_of = np.array([1, 2, 2, 1, 3, 3])
    nodes = [-1, 1, 1, 3]
    for node in (1, 3):
        for rank in np.flatnonzero(np.array(nodes) == node):
            stage_shards(data, str(tmp_path / str(node)), int(rank), nodes, host_of)
    first, second, third = (file.name for file in data.files)
    assert names(tmp_path / "1") == [first, second]
    assert names(tmp_path / "3") == [third]
    assert stage_shards(data, str(tmp_path / "0"), 0, nodes, host_of) == data
    assert not (tmp_path / "0").exists()


def test_staged_samples_are_the_same(data, tmp_path):
    staged = stage_shards(data, str(tmp_path), 0, ALONE, np.zeros(6, np.int64))
    assert staged.directory != data.directory
    here, there = ShardReader(data), ShardReader(staged)
    for client in range(6):
        one, other = here.read(client, "train"), there.read(client, "train")
        assert np.array_equal(one.labels, other.labels)
    here.close()
    there.close()


def test_what_is_there_is_kept_if_it_is_whole(data, tmp_path):
    everyone = np.zeros(6, np.int64)
    staged = Path(stage_shards(data, str(tmp_path), 0, ALONE, everyone).directory)
    first, second, third = (staged / file.name for file in data.files)
    kept = third.stat().st_ino
    first.write_bytes(first.read_bytes()[:-1])
    changed = bytearray(second.read_bytes())
    changed[-1] ^= 1
    second.write_bytes(changed)
    stage_shards(data, str(tmp_path), 0, ALONE, everyone)
    for file in data.files:
        original = Path(data.directory, file.name)
        assert (staged / file.name).read_bytes() == original.read_bytes()
    assert third.stat().st_ino == kept
    assert len(names(tmp_path)) == 3


def test_a_variable_counts_on_the_node(data, tmp_path, monkeypatch):
    everyone = np.zeros(6, np.int64)
    monkeypatch.setenv("FAST_DISK", str(tmp_path))
    staged = stage_shards(data, "$FAST_DISK/here", 0, ALONE, everyone)
    assert staged.directory.startswith(str(tmp_path / "here"))
    with pytest.raises(ConfigError, match="a variable of \\$SLOW_DISK is not set on"):
        stage_shards(data, "$SLOW_DISK", 0, ALONE, everyone)


def test_a_damaged_shard_is_not_copied(data, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in Path(data.directory).iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    victim = copy / data.files[1].name
    changed = bytearray(victim.read_bytes())
    changed[len(changed) // 2] ^= 1
    victim.write_bytes(changed)
    with pytest.raises(DataError, match=re.escape(f"{victim} as ")):
        stage_shards(
            read_manifest(copy), str(tmp_path / "s"), 0, ALONE, np.zeros(6, np.int64)
        )
    assert names(tmp_path / "s") == [data.files[0].name]


def test_a_shard_that_is_missing_and_a_folder_that_cannot_be(data, tmp_path):
    everyone = np.zeros(6, np.int64)
    (tmp_path / "manifest.json").write_bytes(
        Path(data.directory, "manifest.json").read_bytes()
    )
    with pytest.raises(DataError, match="No such file or directory"):
        stage_shards(read_manifest(tmp_path), str(tmp_path / "s"), 0, ALONE, everyone)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="stage_dir: cannot make"):
        stage_shards(data, str(tmp_path / "file"), 0, ALONE, everyone)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        (os.mkfifo, "is not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "is not a file"),
        (Path.mkdir, "is not a file"),
        (lambda path: path.write_bytes(b"short"), "has 5 bytes, the manifest says"),
    ],
    ids=["pipe", "device", "folder", "truncated"],
)
def test_what_is_no_shard_is_not_read(data, tmp_path, replaced, message):
    """A pipe or a device would be read for ever."""
    copy = tmp_path / "copy"
    shutil.copytree(data.directory, copy)
    victim = copy / data.files[1].name
    victim.unlink()
    replaced(victim)
    with pytest.raises(DataError, match=re.escape(f"{victim} {message}")):
        stage_shards(
            read_manifest(copy), str(tmp_path / "s"), 0, ALONE, np.zeros(6, np.int64)
        )
    assert names(tmp_path / "s") == [data.files[0].name]


def test_a_full_disk_is_reported(data, tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, block):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("fedapm_mpi.data.staging.open_new", lambda path: Full())
    with pytest.raises(DataError, match=r"No space left on device.*free some space"):
        stage_shards(data, str(tmp_path), 0, ALONE, np.zeros(6, np.int64))


def test_links_in_the_folder_are_not_followed(data, tmp_path):
    """Neither where a copy is written, nor where one seems to be there already."""
    staged = tmp_path / f"six-{data.sha256[:16]}"
    staged.mkdir()
    precious, first = tmp_path / "precious", data.files[0].name
    precious.write_text("mine")
    (staged / f".{first}.{os.getpid()}.part").symlink_to(precious)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(Path(data.directory, data.files[1].name).read_bytes())
    (staged / data.files[1].name).symlink_to(elsewhere)
    stage_shards(data, str(tmp_path), 0, ALONE, np.zeros(6, np.int64))
    assert precious.read_text() == "mine"
    for file in data.files:
        assert not (staged / file.name).is_symlink()
        assert file_sha256(staged / file.name) == file.sha256


@pytest.mark.parametrize("name", ["../../out", "/out", "a\nb", "x" * 300])
def test_a_name_of_a_data_set_does_not_lead_out_of_the_folder(data, tmp_path, name):
    other = replace(data, dataset=name)
    staged = stage_shards(other, str(tmp_path / "s"), 0, ALONE, np.zeros(6, np.int64))
    assert Path(staged.directory).resolve().parent == (tmp_path / "s").resolve()
    assert len(list((tmp_path / "s").iterdir())) == 1
