"""Users' code that names modules as earlier documentation did."""

import sys

import pytest

import fedapm_mpi
from fedapm_mpi.data.table import column
from fedapm_mpi.utils.moved_modules import MOVED, _Finder, install


@pytest.fixture(autouse=True)
def unknown(monkeypatch):
    for name in MOVED:
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.delattr(fedapm_mpi, name.rpartition(".")[2], raising=False)


def test_former_names_lead_to_the_present_ones():
    with pytest.warns(DeprecationWarning, match=r"now fedapm_mpi\.data\.table\.column"):
        from fedapm_mpi.tables import column as former
    assert former is column
    with pytest.warns(DeprecationWarning, match="now fedapm_mpi.analysis"):
        from fedapm_mpi.runs import load_client_model
    assert load_client_model is fedapm_mpi.load_client_model
    with pytest.warns(DeprecationWarning, match="now fedapm_mpi.data"):
        from fedapm_mpi.shards import ShardReader, read_manifest, write_dataset
    assert {ShardReader.__module__, read_manifest.__module__} == {
        "fedapm_mpi.data.reader", "fedapm_mpi.data.manifest",
    }  # fmt: skip
    assert write_dataset.__module__ == "fedapm_mpi.data.writer"


def test_other_names_are_still_refused():
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from fedapm_mpi.tables import nothing  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        import fedapm_mpi.dealing  # noqa: F401


def test_one_finder_is_enough():
    install()
    assert sum(isinstance(finder, _Finder) for finder in sys.meta_path) == 1
