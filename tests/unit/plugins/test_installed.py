"""Entry points of installed distributions, from their metadata alone."""

import pytest

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.plugins.installed import (
    InstalledPlugin,
    find_installed,
    installed_plugins,
)
from tests.support.distributions import install

GROUP = "fedapm_mpi.models"


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_entry_points_are_read_by_group(site):
    text = f"[{GROUP}]\none = a.b : C [extra]\ntwo=d:e\n[other]\nthree = f:g\n"
    install(site, "shelf", text)
    assert installed_plugins(GROUP) == {
        "one": [InstalledPlugin("a.b:C", "shelf 1.2")],
        "two": [InstalledPlugin("d:e", "shelf 1.2")],
    }
    assert installed_plugins("fedapm_mpi.none") == {}
    assert find_installed(GROUP, "model", "three") is None


def test_the_same_twice_is_no_clash(site):
    install(site, "one", f"[{GROUP}]\nplain = a:b\n")
    install(site, "two", f"[{GROUP}]\nplain = a:b\n")
    assert find_installed(GROUP, "model", "plain").target == "a:b"


def test_different_ones_are_refused(site):
    install(site, "one", f"[{GROUP}]\nplain = a:b\n")
    install(site, "two", f"[{GROUP}]\nplain = a:c\n", "3")
    message = r"model 'plain' is declared more than once; write a:. \(.*\) or a:. \("
    with pytest.raises(ConfigError, match=message):
        find_installed(GROUP, "model", "plain")


def test_what_is_installed_later_is_found_on_a_new_path(site, monkeypatch):
    assert installed_plugins(GROUP) == {}
    other = site / "other"
    install(other, "late", f"[{GROUP}]\nlate = a:b\n")
    monkeypatch.syspath_prepend(other)
    assert set(installed_plugins(GROUP)) == {"late"}
