"""What the objects of a shard may be: nothing is followed out of the file."""

import json

import h5py
import numpy as np
import pytest

from fedapm_mpi.data.manifest import MANIFEST, read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import DataError
from tests.support.data.resealing import reseal


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


def replaced(name, make):
    """Return what puts another array, made by `make`, into a shard."""

    def change(file):
        old = file[name]
        group, _, last = name.rpartition("/")
        shape, dtype = old.shape, old.dtype
        del file[name]
        make(file[group], last, shape, dtype)

    return change


def external_numbers(group, name, shape, dtype):
    size = int(np.prod(shape)) * dtype.itemsize
    group.create_dataset(name, shape, dtype, external=[("/etc/hostname", 0, size)])


def external_link(group, name, shape, dtype):
    group[name] = h5py.ExternalLink("/tmp/other.h5", "/x")


def soft_link(group, name, shape, dtype):
    group[name] = h5py.SoftLink("/test/inputs/n")


def virtual(group, name, shape, dtype):
    layout = h5py.VirtualLayout(shape, dtype)
    layout[:] = h5py.VirtualSource("/tmp/other.h5", "x", shape)
    group.create_virtual_dataset(name, layout)


def compact(group, name, shape, dtype):
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple(shape)
    kind = h5py.h5t.py_create(dtype)
    h5py.h5d.create(group.id, name.encode(), kind, space, layout)


def objects(group, name, shape, dtype):
    group.create_dataset(name, shape, h5py.string_dtype())


def no_array(group, name, shape, dtype):
    group.create_group(name)


def big_endian(group, name, shape, dtype):
    group.create_dataset(name, shape, dtype.newbyteorder(">"), data=np.ones(shape))


def odd_float(group, name, shape, dtype):
    kind = h5py.h5t.IEEE_F64LE.copy()
    kind.set_ebias(1000)
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(group.id, name.encode(), kind, space)


def never_written(group, name, shape, dtype):
    group.create_dataset(name, shape, dtype)


def empty_chunks(group, name, shape, dtype):
    group.create_dataset(name, shape, dtype, chunks=(4,), compression="gzip")


def scaled(group, name, shape, dtype):
    group.create_dataset(name, shape, dtype, chunks=(4,), scaleoffset=2,
                         data=np.ones(shape))  # fmt: skip


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (external_numbers, "numbers of /train/inputs/n lie in other files"),
        (external_link, "/train/inputs/n is a link to somewhere else"),
        (soft_link, "/train/inputs/n is a link to somewhere else"),
        (virtual, "/train/inputs/n does not lie in one piece"),
        (compact, "/train/inputs/n does not lie in one piece"),
        (objects, "/train/inputs/n is object"),
        (no_array, "/train/inputs/n is not an array"),
        (big_endian, "/train/inputs/n is >f8"),
        (odd_float, "/train/inputs/n is float"),
        (never_written, "that /train/inputs/n should have are not in the file"),
        (empty_chunks, "that /train/inputs/n should have are not in the file"),
        (scaled, "/train/inputs/n went through filter 6"),
    ],
)
def test_a_shard_is_one_file_that_refers_to_nothing(made, make, words):
    reseal(made, 0, replaced("train/inputs/n", make))
    with pytest.raises(DataError, match=words) as caught:
        ShardReader(read_manifest(made)).check([0])
    assert "shard-00000-of-00002.h5" in str(caught.value)


def of_20_bits(kind):
    kind.set_precision(20)
    return kind


def of_names(kind):
    names = h5py.h5t.enum_create(kind)
    names.enum_insert(b"a", 0)
    return names


@pytest.mark.parametrize("change", [of_20_bits, of_names])
def test_types_that_h5py_takes_for_plain_integers(made, change):
    """Their bytes, which are read past HDF5, stand for other numbers."""

    def make(group, name, shape, dtype):
        assert dtype == np.int32
        kind = change(h5py.h5t.STD_I32LE.copy())
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(group.id, name.encode(), kind, space)
        assert group[name].dtype == dtype

    reseal(made, 0, replaced("train/label", make))
    with pytest.raises(DataError, match="/train/label has another type than int32"):
        ShardReader(read_manifest(made)).check([0])


@pytest.mark.parametrize("name", ["train", "train/inputs", "train/offset"])
def test_links_on_the_way_are_not_followed(made, name):
    def change(file):
        file.move(name, "/aside")
        file[name] = h5py.SoftLink("/aside")

    reseal(made, 0, change)
    with pytest.raises(DataError, match=f"/{name} is a link to somewhere else"):
        ShardReader(read_manifest(made)).check([0])


@pytest.mark.parametrize("rows", [10**8, 10**12])
def test_rows_that_are_not_there_take_no_memory(made, rows):
    """A foreign manifest and its shard in one folder."""
    path = made / MANIFEST

    def change(file):
        for name in ("label", "row", "length/x", "inputs/n", "inputs/x"):
            old = file["train"][name]
            shape, dtype = (rows, *old.shape[1:]), old.dtype
            del file["train"][name]
            chunks = (10**6, *shape[1:])
            file["train"].create_dataset(
                name, shape, dtype, chunks=chunks, compression="gzip"
            )
        file["train/offset"][...] = [0, *[rows] * 3]

    reseal(made, 0, change)
    make_old_manifest = json.loads(path.read_text())
    del make_old_manifest["checksum"]
    for file in make_old_manifest["files"]:
        del file["block_bytes"], file["block_sums"]
    make_old_manifest["counts"]["train"][:3] = [rows, 0, 0]
    make_old_manifest["label_counts"]["train"][:3] = [[rows, 0, 0], [0] * 3, [0] * 3]
    path.write_text(json.dumps(make_old_manifest))
    with pytest.raises(DataError, match="should have are not in the file"):
        ShardReader(read_manifest(made)).read(0, "train")
