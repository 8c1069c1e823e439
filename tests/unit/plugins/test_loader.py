"""A user's own parts, named well or badly, and whatever they raise or return."""

import os
import re
import sys
from pathlib import Path

import pytest
import yaml

from fedapm_mpi.cli import main as cli
from fedapm_mpi.config.loader import load
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models import models
from fedapm_mpi.plugins.loader import MODULE_PREFIX, forbid_imports
from tests.support.own_files import PLAIN, here, write  # noqa: F401
from tests.support.processes.cli_runs import FEDAPM, experiment


def refused(name, kind=models):
    """Return the sentence by which a name is refused."""
    with pytest.raises(ConfigError) as caught:
        kind.get(name)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 700
    return text


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("plain_a.py", "./plain_a.py:plain"),
        ("plain_b.py", "plain_b.py:plain"),
        ("plain_c.py", "plain_c:plain"),
        ("sub/dir/plain_d.py", "sub/dir/plain_d.py:plain"),
        ("sub dir/plain-é.py", "sub dir/plain-é.py:plain"),
        ("package_e/part.py", "package_e.part:plain"),
    ],
)
def test_a_part_in_a_file_or_a_module(here, file, name):  # noqa: F811
    write(file, PLAIN)
    made = models.get(name)
    assert made.__name__ == "plain"
    assert models.get(name) is made
    if name.endswith(".py:plain"):
        assert models.get(str(here / file) + ":plain") is made
        Path("link.py").symlink_to(here / file)
        assert models.get("./link.py:plain") is made


def test_a_part_within_a_class_and_with_its_helpers():
    write("sub/nested.py", "import own_helper\nclass A:\n    class B:\n        f = len")
    write("sub/own_helper.py", "")
    assert models.get("./sub/nested.py:A.B.f") is len


def test_a_file_has_a_module_of_its_own_that_dataclasses_find():
    write(
        "sub/random.py",
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "@dataclass\nclass Own:\n    rate: float = 0.5\n",
    )
    import random

    part = models.get("./sub/random.py:Own")
    assert part.__module__ in sys.modules
    assert sys.modules["random"] is random
    assert part().rate == 0.5


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (":", "is not a name: write module:name or ./file.py:name"),
        (".:x", "is not a name"),
        ("..:x", "is not a name"),
        (".own:x", "is not a name"),
        ("own:", "is not a name"),
        (":plain", "is not a name"),
        ("own:a b", "is not a name"),
        ("a/b", "is not a name"),
        ("own", r"for the file own.py here write ./own.py:NAME"),
        ("own.py", r"name the function or class in the file, as in ./own.py:NAME"),
        ("./own.py", r"as in ./own.py:NAME"),
        ("./onw.py:plain", "there is no file ./onw.py; did you mean own.py?"),
        ("onw:plain", "cannot import 'onw'.*as in ./onw.py:plain; did you mean 'own'?"),
        ("./nowhere/own.py:plain", "there is no file ./nowhere/own.py, nor a folder"),
        ("./own.py:plian", "own.py has no 'plian'; did you mean 'plain'?"),
        ("own:nn", "'nn' in own.py is a module; it must be a function or class"),
        ("own:plain.x", "own.py has no 'x'"),
        ("./:plain", " is a folder"),
        ("./own.txt:plain", "is not a .py file"),
        ("./own.py\0:plain", "is not a name"),
        ("x" * 5000, "unknown model 'xxx"),
        ("./" + "x" * 5000 + ".py:plain", "cannot look for the file|there is no file"),
    ],
)
def test_names_that_lead_nowhere(name, wanted):
    write("own.py", PLAIN)
    write("own.txt", PLAIN)
    assert re.search(wanted, refused(name))


@pytest.mark.parametrize("form", ["faulty:plain", "./faulty.py:plain"])
@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("def plain(:\n", r"SyntaxError: invalid syntax \(faulty.py, line 1\)"),
        ("def f():\n\treturn 1\n    x\n", r"IndentationError: .*\(faulty.py, line 3\)"),
        ("x = 1\nimport nonexistent_thing\n",
         r"ModuleNotFoundError: No module named 'nonexistent_thing' \(faulty.py, line 2"
         r"\); install 'nonexistent_thing' or put it on PYTHONPATH"),
        ("from os import nothing_like_it\n", r"ImportError: .* \(faulty.py, line 1\)"),
        ("from . import x\n", r"attempted rel.*\(faulty.py, line 1\); name a file"),
        ("def f():\n    1 / 0\nf()\n", r"ZeroDivisionError: .* \(faulty.py, line 2\)"),
        ("raise SystemExit(0)\n", r"SystemExit: 0 \(faulty.py, line 1\)"),
        ("raise BaseException('boo ' * 999)\n",
         r"BaseException: (boo ){50}… \(3996 characters\) \(faulty.py, line 1\)"),
        ("raise ValueError('a\\n  b\\x1b[2J')\n", r"Error: a b\\x1b\[2J \(faulty.py"),
        ("def f():\n    f()\nf()\n", r"RecursionError: .*without an end"),
        (b"x = '\xff\xfe'\n", r"SyntaxError: \(unicode error.* \(faulty.py, line 1\)"),
        (b"x = 1\0\n", r"(SyntaxError|ValueError): source .*null bytes \(faulty.py"),
        ("class E(Exception):\n    def __str__(self): 1 / 0\nraise E\n",
         r"failed: E \(faulty.py, line 3\)"),
        ("input('never')\n", r"EOFError: .* \(faulty.py, line 1\)"),
        ("import faulty_helper\n", r"KeyError: 'h' \(faulty_helper.py, line 1\)"),
    ],
)  # fmt: skip
def test_code_that_was_found_but_raises_as_it_is_imported(form, source, wanted):
    write("faulty.py", source)
    write("faulty_helper.py", "raise KeyError('h')\n")
    reported = refused(form)
    assert reported.startswith(f"model {form!r} was found, but its import failed: ")
    assert re.search(wanted, reported)
    assert "run from its folder" not in reported
    write("faulty.py", PLAIN)  # a failed import leaves nothing behind
    os.utime("faulty.py", (1, 1))
    assert models.get(form).__name__ == "plain"


def test_a_module_whose_own_getattr_raises():
    write("lazy.py", "def __getattr__(name):\n    1 / 0\n")
    assert re.search(r"ZeroDivisionError: .* \(lazy.py, line 2\)", refused("lazy:x"))


def test_what_is_printed_at_import_does_not_reach_the_output(capsys):
    write("chatty.py", "print('hello')\n" + PLAIN)
    models.get("chatty:plain")
    found = capsys.readouterr()
    assert found.out == ""
    assert "hello" in found.err


def test_a_module_that_another_of_the_same_name_hides():
    write("colorsys.py", PLAIN)
    reported = refused("colorsys:plain")
    assert "module 'colorsys' is " in reported
    assert "not the file colorsys.py here; if that is meant, write " in reported
    assert "./colorsys.py:plain" in reported
    assert models.get("./colorsys.py:plain").__name__ == "plain"
    write("wave/__init__.py", PLAIN)
    assert "./wave/__init__.py:open" in refused("wave:open")


def test_a_submodule_is_hinted_at():
    write("package_f/__init__.py", "")
    write("package_f/part.py", PLAIN)
    assert "write package_f.part:NAME" in refused("package_f:part")


def config_of(model, **changes):
    values = {"data": "x", "rounds": 1, "model": model, "algorithm": FEDAPM}
    values |= {"split": {"personal": ["2.*"]}} | changes
    Path("config.yaml").write_text(yaml.safe_dump(values))
    return load("config.yaml").plain()


def test_what_a_configuration_records_of_a_file(here, monkeypatch):  # noqa: F811
    write("own.py", PLAIN)
    write("rule.py", "def rule(name, parameter):\n    return name == '2.weight'\n")
    found = config_of("./own.py:plain", split={"rule": "rule.py:rule"})
    assert found["model"] == {"name": f"{here}/own.py:plain", "hidden": 8}
    assert found["split"]["rule"] == f"{here}/rule.py:rule"
    nested = config_of({"name": "lora", "rank": 1, "base": {"name": "./own.py:plain"}})
    assert nested["model"]["base"]["name"] == f"{here}/own.py:plain"
    monkeypatch.chdir("/")
    assert models.get(found["model"]["name"]).__name__ == "plain"


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("def f(inputs): pass", "is called with 2 arguments by position, but takes 1"),
        ("def f(a, b, c, /): pass", "needs 'c' by position"),
        ("class f: pass", "is called with 2 arguments by position, but takes 0"),
        ("class f:\n    __signature__ = 5\n    def __init__(self, a, b): pass",
         "its options cannot be read: TypeError"),
        ("def f(a, b, *, x: int): pass", "x: missing"),
        ("def f(a, b, *, x: int = 'y'): pass", None),
        ("def f(a, b, *, x: 1 / 0 = 3): pass", "ZeroDivisionError"),
        ("def f(a, b, *, x: 'no.such[thing]' = 3): pass", None),
    ],
)  # fmt: skip
def test_signatures(code, wanted):
    write("own.py", f"{code}\n")
    if wanted is None:
        config_of("own:f")
        return
    with pytest.raises(ConfigError, match=re.escape(wanted)):
        config_of("own:f")


def test_options_of_any_name_and_defaults_that_are_no_data():
    write(
        "own.py",
        "from pathlib import Path\nfrom torch import nn\n"
        "def f(*inputs, act=nn.ReLU, json: int = 3, _x=1, model_config=2, copy='a',\n"
        "      path: Path = Path('x'), rates=(0.1, 0.2)):\n    pass\n",
    )
    model = {"name": "own:f", "_x": 5, "path": "y"}
    plain = {"name": "own:f", "json": 3, "_x": 5, "model_config": 2, "copy": "a"}
    found = config_of(model)["model"]
    assert found == {**plain, "path": "y", "rates": (0.1, 0.2)}
    yaml.safe_dump(found)
    with pytest.raises(ConfigError, match="jsn: unknown key; did you mean 'json'"):
        config_of({"name": "own:f", "jsn": 3})


def test_no_own_part_is_imported_where_that_is_forbidden():
    write("own.py", "open('canary', 'w')\n" + PLAIN)
    with forbid_imports("for a test"):
        assert "is not imported here: for a test" in refused("own:plain")
        assert config_of("own:plain")["model"] == {"name": "own:plain"}
    assert not Path("canary").exists()


def test_a_run_from_another_folder(toy, tmp_path, monkeypatch):
    """The recorded name of a file works from anywhere."""
    write("own.py", PLAIN)
    values = experiment(
        toy["features"], model="./own.py:plain", split={"personal": ["2.*"]}
    )
    Path("config.yaml").write_text(yaml.safe_dump(values))
    assert cli.main(["train", "config.yaml", "rounds=1", "--run-dir", "run"]) == 0
    for name in [n for n in sys.modules if n.startswith(MODULE_PREFIX)]:
        del sys.modules[name]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli.main(["train", "rounds=2", "--resume", "../run"]) == 0
