"""Write, read and damage safetensors files."""

import pytest
import torch

from fedapm_mpi.engine.tensor_files import (
    READ_ERRORS,
    read_tensors,
    tensor_names,
    write_tensors,
)
from fedapm_mpi.errors import WriteError

TENSORS = {"a": torch.arange(4.0).view(2, 2).T, "b": torch.tensor([1, 2])}


def test_what_is_written_is_read(tmp_path):
    write_tensors(tmp_path / "x", TENSORS, "a note")
    found = read_tensors(tmp_path / "x")
    assert sorted(found) == sorted(tensor_names(tmp_path / "x")) == ["a", "b"]
    for name, tensor in found.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert torch.equal(tensor, TENSORS[name])


def test_only_wanted_tensors_are_read_and_copies_survive_the_file(tmp_path):
    path = tmp_path / "x"
    write_tensors(path, TENSORS)
    found = read_tensors(path, lambda name: name == "a", copy=True)
    path.write_bytes(bytes(path.stat().st_size))
    assert list(found) == ["a"]
    assert torch.equal(found["a"], TENSORS["a"])


@pytest.mark.parametrize("content", [None, b"", b"{" * 100])
def test_a_file_that_is_missing_or_damaged_raises_what_is_said(tmp_path, content):
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(READ_ERRORS):
        read_tensors(path)
    with pytest.raises(READ_ERRORS):
        tensor_names(path)


def test_a_folder_that_is_missing_is_a_write_error(tmp_path):
    with pytest.raises(WriteError):
        write_tensors(tmp_path / "no" / "x", TENSORS)
