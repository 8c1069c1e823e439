"""Names of a user's own parts, before any of them is loaded."""

from pathlib import Path

import pytest

from fedapm_mpi.plugins import names


@pytest.mark.parametrize(
    ("name", "own", "of_file"),
    [
        ("fedapm", False, False),
        ("mine:Method", True, False),
        ("./mine.py:Method", True, True),
        ("folder/mine", True, True),
        ("mine.py", True, True),
        (None, False, None),
        (3, False, None),
    ],
)
def test_whose_a_name_is(name, own, of_file):
    assert names.is_user_plugin(name) == own
    if of_file is not None:
        assert names.names_file(name) == of_file
    kind = names.user_plugin_label("model", name) if isinstance(name, str) else None
    assert (kind is not None) == own


def test_a_file_gets_a_name_that_works_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert names.absolute_name("./a.py:net") == f"{tmp_path}/a.py:net"
    assert names.absolute_name("~/a.py:net") == f"{tmp_path}/home/a.py:net"
    assert names.absolute_name("a:net") == "a:net"
    assert names.absolute_name("fedapm") == "fedapm"
    monkeypatch.chdir("/")
    assert names.absolute_name(f"{tmp_path}/a.py:net") == f"{tmp_path}/a.py:net"


def test_a_file_below_the_working_directory_is_shown_without_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert names.display_name(f"{tmp_path}/sub/a.py:net") == "./sub/a.py:net"
    assert names.display_name("/elsewhere/a.py:net") == "/elsewhere/a.py:net"
    assert names.display_name("a:net") == "a:net"
    assert names.plugin_label("model", f"{tmp_path}/a.py:net") == "model './a.py:net'"


def test_names_are_changed_within_options_too():
    part = {
        "name": "./a.py:net",
        "base": {"name": "b:net", "width": 3},
        "parts": [{"name": "mlp"}, {"name": "c:net"}, 5],
    }
    assert names.rename_plugins(part, str.upper) == {
        "name": "./A.PY:NET",
        "base": {"name": "B:NET", "width": 3},
        "parts": [{"name": "mlp"}, {"name": "C:NET"}, 5],
    }
    assert part["name"] == "./a.py:net"


def test_odd_names_lead_to_no_file_and_to_no_error(tmp_path):
    (tmp_path / "a.py").touch()
    assert names.file_exists(str(tmp_path / "a.py"))
    for odd in ("", "a\0b", "x" * 5000, str(tmp_path)):
        assert not names.file_exists(odd)
    assert names.path_of("~nobody-of-that-name/a.py") == Path(
        "~nobody-of-that-name/a.py"
    )
