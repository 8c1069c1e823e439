"""What is asked of the hub, and what is said where it does not answer."""

import sys
from types import SimpleNamespace

import pytest

from data_prep.hub import CONVERTED, fetch
from fedapm_mpi.errors import ConfigError, DataError


@pytest.fixture
def hub(monkeypatch):
    """Return a hub that lists the files of each branch and notes what is fetched."""
    made = SimpleNamespace(files={}, fetched=[])

    def listed(name, *, repo_type, revision):
        assert repo_type == "dataset"
        return made.files.get(revision, [])

    def snapshot(name, **options):
        made.fetched.append((name, options))

    module = SimpleNamespace(
        HfApi=lambda: SimpleNamespace(list_repo_files=listed),
        snapshot_download=snapshot,
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return made


def test_only_arrow_and_parquet_files_are_fetched(hub, tmp_path):
    hub.files[None] = ["README.md", "data/train-0.parquet", "dataset_info.json", "x.py"]
    assert fetch("me/mine", tmp_path) == tmp_path / "me--mine"
    ((name, options),) = hub.fetched
    assert name == "me/mine"
    assert options["allow_patterns"] == ["data/train-0.parquet", "dataset_info.json"]
    assert options["local_dir"] == tmp_path / "me--mine"
    assert (options["revision"], options["repo_type"]) == (None, "dataset")


def test_files_that_the_hub_made_are_fetched_where_there_are_no_others(hub, tmp_path):
    hub.files = {None: ["all.csv"], CONVERTED: ["default/train/0000.parquet"]}
    fetch("mine", tmp_path)
    assert hub.fetched[0][1]["revision"] == CONVERTED


def test_a_data_set_without_such_files(hub, tmp_path):
    hub.files[None] = ["all.csv"]
    with pytest.raises(DataError, match="me/mine has no Arrow or parquet files on the"):
        fetch("me/mine", tmp_path)
    assert not hub.fetched


@pytest.mark.parametrize("name", ["", "a/b/c", "a b", "http://x"])
def test_what_is_no_name(hub, tmp_path, name):
    with pytest.raises(ConfigError, match="is no data set of the hub; give hf:OWNER"):
        fetch(name, tmp_path)


def test_no_network_is_one_sentence(tmp_path, monkeypatch):
    constants = pytest.importorskip(
        "huggingface_hub.constants", reason="huggingface_hub is not installed"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        DataError, match=r"cannot download the data set a/b from the hub \(.*\); check"
    ):
        fetch("a/b", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_the_library_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"pip install 'fedapm-mpi\[hf\]'"):
        fetch("a/b", tmp_path)
