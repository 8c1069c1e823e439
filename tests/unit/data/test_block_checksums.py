"""Files whose blocks have checksums: any part is read right, or not at all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedapm_mpi.data.block_checksums import (
    BLOCK_BYTES,
    CHECKSUM_BYTES,
    ChangedError,
    CheckedFile,
    append_sums,
)
from fedapm_mpi.utils.atomic_io import file_sha256


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sums")


def sealed(folder, size, block):
    raw = np.random.default_rng(size).bytes(size)
    (folder / "x").write_bytes(raw)
    return raw, append_sums(folder / "x", block)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 400), st.sampled_from([64, 65, 128]), st.data())
def test_every_part_is_read(folder, size, block, data):
    raw, kept = sealed(folder, size, block)
    assert kept.bytes == size + CHECKSUM_BYTES * -(-size // block)
    assert kept.bytes == (folder / "x").stat().st_size
    assert kept.sha256 == file_sha256(folder / "x")
    start = data.draw(st.integers(0, size))
    stop = data.draw(st.integers(start, size))
    wrong = data.draw(st.integers(0, size - 1))
    with CheckedFile(folder / "x", block, kept.sums) as file:
        assert file.size == size
        found = bytearray(stop - start)
        file.read_at(memoryview(found), start)
        assert bytes(found) == raw[start:stop]
        file.seek(start)
        assert file.read() == raw[start:]
        with (folder / "x").open("r+b") as other:
            other.seek(wrong)
            other.write(bytes([raw[wrong] ^ 4]))
        first, last = start // block, (stop - 1) // block
        if start < stop and first <= wrong // block <= last:
            with pytest.raises(ChangedError, match="do not have the checksum"):
                file.read_at(memoryview(found), start)
        elif start < stop:
            file.read_at(memoryview(found), start)
            assert bytes(found) == raw[start:stop]


def test_nothing_is_read_beyond_the_end(folder):
    _, kept = sealed(folder, 100, 64)
    with CheckedFile(folder / "x", 64, kept.sums) as file:
        for start, number in ((90, 11), (100, 1), (-1, 2)):
            with pytest.raises(OSError, match="it ends before"):
                file.read_at(memoryview(bytearray(number)), start)
        assert file.seek(0, 2) == 100
        assert file.read() == b""


@pytest.mark.parametrize("size", [0, 1, 3, 63, 10_000])
def test_a_file_that_has_no_such_table(folder, size):
    (folder / "y").write_bytes(bytes(size))
    with pytest.raises(ChangedError, match="table of checksums has changed"):
        CheckedFile(folder / "y", BLOCK_BYTES, "0" * 64)


def test_the_table_is_small(folder):
    _, kept = sealed(folder, 2**20, BLOCK_BYTES)
    assert kept.bytes - 2**20 == 2**20 // 2048
