"""A failed block leaves no empty folder that it has made."""

import pytest

from fedapm_mpi.utils.new_folders import no_empty_folders


def make(folder, *, fail, file=None):
    with no_empty_folders(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if file:
            (folder / file).touch()
        if fail:
            raise KeyError


def test_folders_are_removed_where_the_block_fails(tmp_path):
    with pytest.raises(KeyError):
        make(tmp_path / "a" / "b", fail=True)
    assert list(tmp_path.iterdir()) == []
    make(tmp_path / "a" / "b", fail=False)
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_stays_where_it_was_there_or_holds_something(tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    with pytest.raises(KeyError):
        make(there / "new", fail=True)
    assert there.is_dir()
    with pytest.raises(KeyError):
        make(there / "kept", fail=True, file="file")
    assert (there / "kept" / "file").exists()
