"""Cells of named tensors in a mapped file."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from fedapm_mpi.errors import WriteError
from fedapm_mpi.storage.shared_memory import (
    MappedFile,
    TensorArena,
    max_required_bytes,
    required_bytes,
)
from fedapm_mpi.utils.alignment import ALIGNMENT

KEYS = ("a", ("b", "test"), 3)


def tensors(fill=1.0):
    """Return tensors of all kinds that a state or samples may have."""
    return {
        "shared": torch.full((37,), fill),
        "nothing": torch.zeros(0),
        "double": torch.tensor([fill], dtype=torch.float64),
        "count": torch.tensor(7),
        "flipped": torch.arange(6.0).reshape(2, 3).T,
        "colours": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "spread": torch.ones(1).expand(4, 4),
        "empty rows": torch.zeros(0, 3, 4),
    }


def two_views(tmp_path, capacities):
    """Return the same cells as two processes would see them."""
    file, path = MappedFile.create(tmp_path, ALIGNMENT + TensorArena.size(capacities))
    other = MappedFile.open(path)
    path.unlink()
    return [TensorArena(one, ALIGNMENT, KEYS, capacities) for one in (file, other)]


def equal(left, right):
    return list(left) == list(right) and all(
        torch.equal(left[name], right[name]) and left[name].dtype == right[name].dtype
        for name in left
    )


def test_what_one_puts_another_gets(tmp_path):
    capacities = [required_bytes(tensors())] * 3
    here, there = two_views(tmp_path, capacities)
    for key in KEYS:
        assert key not in there
        assert there.get(key) is None
    put = here.put(KEYS[1], given := tensors())
    assert [key in there for key in KEYS] == [False, True, False]
    for found in (put, here.get(KEYS[1]), there.get(KEYS[1])):
        assert equal(found, given)
    assert "else" not in here
    assert here.get("else") is None


def test_changes_in_place_are_seen_and_stay_in_their_cell(tmp_path):
    here, there = two_views(tmp_path, [required_bytes(tensors())] * 3)
    for k, key in enumerate(KEYS):
        here.put(key, tensors(float(k)))
    there.get(KEYS[1])["shared"].fill_(9.0)
    there.get(KEYS[1])["flipped"][0, 1] = 5.0
    assert (here.get(KEYS[1])["shared"] == 9).all()
    assert here.get(KEYS[1])["flipped"][0].tolist() == [0.0, 5.0]
    for k in (0, 2):
        assert (here.get(KEYS[k])["shared"] == k).all()
    given = tensors(8.0)
    here.put(KEYS[0], given)
    given["shared"].zero_()
    assert (here.get(KEYS[0])["shared"] == 8).all()


def test_alignment_and_memory_order_are_those_of_torch(tmp_path):
    here, _ = two_views(
        tmp_path, [required_bytes(tensors()), required_bytes(tensors()) + 8, 9999]
    )
    for key in KEYS:
        found = here.put(key, given := tensors())
        for name, tensor in found.items():
            assert tensor.data_ptr() % ALIGNMENT == 0
            if name != "spread":
                assert tensor.stride() == given[name].stride()
    assert found["spread"].is_contiguous()


def test_a_cell_has_the_room_that_it_says(tmp_path):
    here, _ = two_views(
        tmp_path, [required_bytes(tensors()), required_bytes(tensors()) - ALIGNMENT, 64]
    )
    here.put(KEYS[0], tensors())
    for key in KEYS[1:]:
        with pytest.raises(WriteError, match="holds"):
            here.put(key, tensors())
        assert key not in here


@pytest.mark.parametrize("rows", [0, 1, 7, 123456])
def test_most_room_suffices_and_is_not_far_more(rows):
    given = {
        "input 0": torch.zeros(rows, 3, 5),
        "length a long name": torch.zeros(rows, dtype=torch.int64),
        "stage": torch.tensor(1),
    }
    most = int(max_required_bytes([60, 8], np.array([rows]))[0])
    assert required_bytes(given) <= most <= required_bytes(given) + 1000


def test_cells_that_are_not_filled_take_no_room(tmp_path):
    capacities = [10_000_000] * 3
    file, path = MappedFile.create(tmp_path, TensorArena.size(capacities))
    cells = TensorArena(file, 0, KEYS, capacities)
    cells.put(KEYS[2], tensors())
    for key in KEYS:
        cells.get(key)
    status = path.stat()
    assert status.st_size > 30_000_000
    assert status.st_blocks * 512 < 100_000


def test_no_room_is_an_error_that_names_the_folder(tmp_path, monkeypatch):
    here, there = two_views(tmp_path, [required_bytes(tensors())] * 3)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(WriteError, match=f"{tmp_path}.*No space left.*scratch"):
        here.put(KEYS[0], tensors())
    assert KEYS[0] not in there


def test_long_writes_continue_where_the_system_stopped(tmp_path, monkeypatch):
    here, there = two_views(tmp_path, [required_bytes(tensors())] * 3)
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: whole(fd, data[:5], at))
    here.put(KEYS[0], given := tensors())
    assert equal(there.get(KEYS[0]), given)


def test_another_process_sees_it(tmp_path):
    capacities = [required_bytes(tensors())] * 3
    file, path = MappedFile.create(tmp_path, TensorArena.size(capacities))
    cells = TensorArena(file, 0, KEYS, capacities)
    cells.put(KEYS[0], tensors(2.0))
    code = (
        "import sys; from pathlib import Path\n"
        "from fedapm_mpi.storage.shared_memory import TensorArena, MappedFile\n"
        "file = MappedFile.open(Path(sys.argv[1]))\n"
        f"cells = TensorArena(file, 0, 'abc', {capacities})\n"
        "found = cells.get('a')['shared']\n"
        "assert (found == 2).all()\n"
        "found.add_(1)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert (cells.get(KEYS[0])["shared"] == 3).all()
