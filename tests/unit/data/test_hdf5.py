"""Shards that take less space hold the same samples, and say what they need."""

import sys
from typing import get_args

import h5py
import numpy as np
import pytest

from data_prep.pipeline import plan, prepare
from data_prep.writer import Sample, write_samples
from fedapm_mpi.data.hdf5 import Compression
from fedapm_mpi.data.manifest import InputSpec, read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.verify import find_duplicates, join, verify
from fedapm_mpi.errors import ConfigError, DataError

KINDS = get_args(Compression)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    rng = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("raw") / "raw.npz"
    image = rng.integers(0, 9, (600, 20, 20)).astype(np.uint8)
    image[rng.random(image.shape[:2]) < 0.8] = 0
    series = np.cumsum(rng.normal(size=(600, 40, 3)), axis=1).astype(np.float32)
    lengths = rng.integers(1, 41, 600)
    np.savez(path, x_image=image, x_series=series, y=np.arange(600) % 3,
             client=np.arange(600) // 100, length_series=lengths)  # fmt: skip
    return path


def made(raw, directory, **values):
    manifest, _ = prepare(plan("arrays", {"shards": 2, **values}), raw, directory)
    return manifest


def everything(manifest):
    reader = ShardReader(manifest)
    found = [
        reader.read(i, split)
        for i in range(manifest.num_clients)
        for split in manifest.counts
    ]
    reader.close()
    return found


def same(one, other, **close):
    for a, b in zip(everything(one), everything(other), strict=True):
        for name in a.inputs:
            np.testing.assert_allclose(a.inputs[name], b.inputs[name], **close)
        np.testing.assert_array_equal(a.labels, b.labels)
        for name in a.lengths:
            np.testing.assert_array_equal(a.lengths[name], b.lengths[name])


@pytest.mark.parametrize("kind", KINDS)
def test_compressed_shards_hold_the_same_in_less_space(raw, tmp_path, kind):
    plain = made(raw, tmp_path / "plain")
    small = made(raw, tmp_path / "small", compression=kind)
    same(plain, small, rtol=0, atol=0)
    sizes = [sum(file.bytes for file in m.files) for m in (plain, small)]
    assert sizes[1] < 0.9 * sizes[0]
    again = made(raw, tmp_path / "again", compression=kind)
    assert [f.sha256 for f in again.files] == [f.sha256 for f in small.files]
    assert small.preparation["compression"] == kind
    assert "compression" not in plain.preparation
    found = find_duplicates(small, join([own for _, own in verify(small)]))
    assert found.apart == []


@pytest.mark.parametrize("kind", KINDS)
def test_damage_in_compressed_samples_is_found(raw, tmp_path, kind):
    manifest = made(raw, tmp_path / "to", compression=kind)
    path = tmp_path / "to" / manifest.files[0].name
    whole = path.read_bytes()
    with h5py.File(path) as file:
        chunk = file["train"]["inputs"]["series"].id.get_chunk_info(0)
    raw_bytes = bytearray(whole)
    raw_bytes[chunk.byte_offset : chunk.byte_offset + 64] = b"\xff" * 64
    path.write_bytes(raw_bytes)
    with pytest.raises(DataError, match=path.name):
        list(verify(manifest))
    reader = ShardReader(manifest)
    try:  # without checksums it gives samples or a DataError, never a crash
        reader.read(0, "train")
    except DataError as error:
        assert path.name in str(error)  # noqa: PT017
    reader.close()


def test_a_library_that_is_not_there(raw, tmp_path, monkeypatch):
    manifest = made(raw, tmp_path / "to", compression="zstd")
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(DataError, match="compression=blosc needs hdf5plugin"):
        made(raw, tmp_path / "other", compression="blosc")
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda number: False)
    with pytest.raises(DataError, match="compressed in a way that needs hdf5plugin"):
        ShardReader(manifest).read(0, "train")


def test_unknown_ways_are_refused():
    with pytest.raises(ConfigError, match="compression"):
        plan("arrays", {"compression": "zip"})
    with pytest.raises(ConfigError, match="store"):
        plan("arrays", {"store": "int4"})


def test_half_precision(raw, tmp_path):
    plain = made(raw, tmp_path / "plain")
    half = made(raw, tmp_path / "half", store="float16")
    kinds = {spec.name: spec.dtype for spec in half.inputs}
    assert kinds == {"image": "uint8", "series": "float16"}
    same(plain, half, rtol=2**-11, atol=1e-6)
    assert half.preparation["store"] == "float16"


def test_samples_written_one_by_one(tmp_path):
    samples = [
        Sample(k % 2, split, {"x": np.full(50, k, np.float32)}, 0)
        for k in range(40)
        for split in ("train", "test")
    ]
    sizes = []
    for kind in (None, "gzip"):
        manifest = write_samples(
            tmp_path / str(kind), samples, dataset="t", classes=["a"],
            inputs=[InputSpec("x", (50,), "float32")], compression=kind,
        )  # fmt: skip
        sizes.append(manifest.files[0].bytes)
    assert sizes[1] < sizes[0]
    same(read_manifest(tmp_path / "None"), read_manifest(tmp_path / "gzip"))
