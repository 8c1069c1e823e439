"""Tensors by name in files: what is written is read back, and damage is an error."""

import errno
import os

import pytest
import torch

from fedapm_mpi.engine import tensor_files
from fedapm_mpi.utils.atomic_io import WriteError

TENSORS = {
    "a": torch.arange(6, dtype=torch.float64).view(2, 3).T,  # not contiguous
    "b": torch.tensor([1, 2]),
    "empty": torch.zeros(0),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "x.safetensors"
    tensor_files.write_tensors(path, TENSORS, metadata="note")
    return path


@pytest.mark.parametrize("copy", [False, True])
def test_what_is_written_is_read_back(path, copy):
    found = tensor_files.read_tensors(path, copy=copy)
    assert sorted(found) == sorted(TENSORS) == sorted(tensor_files.tensor_names(path))
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert tensor_files.read_tensors(path, lambda name: name == "b").keys() == {"b"}


def test_the_same_tensors_give_the_same_bytes(path, tmp_path):
    other = tmp_path / "y.safetensors"
    backwards = dict(reversed(TENSORS.items()))
    tensor_files.write_tensors(other, backwards, metadata="note")
    assert other.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("harm", ["truncated", "empty", "missing"])
def test_damage_is_one_of_the_errors_that_are_named(path, harm):
    if harm == "missing":
        path.unlink()
    else:
        os.truncate(path, 0 if harm == "empty" else path.stat().st_size - 1)
    for read in (tensor_files.read_tensors, tensor_files.tensor_names):
        with pytest.raises(tensor_files.READ_ERRORS):
            read(path)


def test_a_full_disk_leaves_the_old_file(path, monkeypatch):
    def full(tensors, part, metadata):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = path.read_bytes()
    monkeypatch.setattr(tensor_files, "save_file", full)
    with pytest.raises(WriteError, match=r"cannot write .*x\.safetensors"):
        tensor_files.write_tensors(path, TENSORS)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
