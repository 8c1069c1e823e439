"""A user's own parts, named well or badly, and whatever they raise or return."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from fedapm_mpi.cli import main as cli
from fedapm_mpi.config.loader import load
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.models import models
from fedapm_mpi.plugins import faults
from fedapm_mpi.plugins import loader as ownparts
from tests.support.processes.cli_runs import FEDAPM, digest_of, experiment

PLAIN = """\
from torch import nn


def plain(inputs, num_classes, *, hidden: int = 8):
    body = nn.Linear(inputs[0].shape[0], hidden)
    return nn.Sequential(body, nn.ReLU(), nn.Linear(hidden, num_classes))
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in an empty folder, and forget whatever is imported from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != ""])
    monkeypatch.setattr(faults, "OWN", [])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


def write(name, text):
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


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
def test_a_part_in_a_file_or_a_module(here, file, name):
    write(file, PLAIN)
    made = models.get(name)
    assert made.__name__ == "plain"
    assert models.get(name) is made
    if name.endswith(".py:plain"):
        assert models.get(str(here / file) + ":plain") is made
        Path("link.py").symlink_to(here / file)
        assert models.get("./link.py:plain") is made


def test_a_part_within_a_class_and_beside_its_helpers():
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
        ("own.py", r"say which part of the file it is, as in ./own.py:NAME"),
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
    told = refused(form)
    assert told.startswith(f"model {form!r} was found, but its import failed: ")
    assert re.search(wanted, told)
    assert "run from its folder" not in told
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
    told = refused("colorsys:plain")
    assert "module 'colorsys' is " in told
    assert "not the file colorsys.py here; if that is meant, write " in told
    assert "./colorsys.py:plain" in told
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


def test_what_a_configuration_records_of_a_file(here, monkeypatch):
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


PARTS = """\
import sys

import numpy as np
import torch
from torch import nn

from fedapm_mpi.errors import FedAPMError


class Net(nn.Module):
    def __init__(self, width, k, late):
        super().__init__()
        self.body, self.head = nn.Linear(width, 4), nn.Linear(4, k)
        self.late, self.passes = late, 0

    def forward(self, x):
        self.passes += self.training
        if self.passes > 2:
            return self.late(self, x)
        return self.head(self.body(x))


def net(late):
    return lambda inputs, k: Net(inputs[0].shape[0], k, late)


def bad(self, x):
    raise KeyError("in use")


def leave(self, x):
    raise SystemExit(0)


class Mine(FedAPMError):
    exit_code = 0

    def __init__(self, a, b):
        super().__init__("mine")


def told(self, x):
    raise Mine(1, 2)


of_mine = net(told)


def builds_mine(inputs, k):
    raise Mine(1, 2)


in_use, exits = net(bad), net(leave)
inside_torch = net(lambda self, x: self.head(x))


def raises(inputs, k):
    raise ValueError("bad luck")


def nothing(inputs, k):
    return None


class Scheme:
    def __init__(self, how):
        self.how = how

    def check(self, m):
        pass

    def choose(self, m, rng):
        return self.how(m)


def scheme(how):
    return lambda: Scheme(how)


c_none, c_twice = scheme(lambda m: None), scheme(lambda m: [0, 0])
c_float, c_beyond = scheme(lambda m: [0.5]), scheme(lambda m: [m])
c_raises, c_list = scheme(lambda m: 1 / 0), scheme(lambda m: [0, 1])


def p_none(costs, hosts):
    return None


def p_float(costs, hosts):
    return [0.5] * len(costs)


class Sum:
    bytes_per_element = 8

    def __init__(self, give):
        self.give = give

    def sum(self, comm, updates, context):
        return self.give(context.length)


def summed(give):
    return lambda: Sum(give)


r_none, r_raises = summed(lambda n: None), summed(lambda n: 1 / 0)
r_nan, r_object = summed(lambda n: np.full(n, np.nan)), object


class Method:
    sharing, rows = "split", 1

    def __init__(self, give, **more):
        self.give = give
        self.__dict__.update(more)

    def new_client(self, shared, personal):
        return {"shared": shared.clone(), "personal": personal.clone()}

    def client_step(self, broadcast, client, problem, weight):
        return self.give(broadcast)

    def server_step(self, server, total, round_):
        server += total


def method(give=torch.zeros_like, **more):
    return lambda: Method(give, **more)


a_fine, a_none = method(), method(lambda b: None)
a_shape, a_raises = method(lambda b: b[0]), method(lambda b: 1 / 0)
a_nan = method(server_step=lambda s, t, r: s.mul_(float("nan")))
a_leaves = method(lambda b: sys.exit(3))
a_server = method(server_step=lambda s, t, r: 1 / 0)
a_state, a_sharing = method(new_client=lambda s, p: None), method(sharing="some")


def s_none(name, parameter):
    return None


def s_raises(name, parameter):
    raise ValueError("rule")
"""
IN_USE = [
    ("model", "raises", 2, r"could not be built: ValueError: bad luck \(parts.py, li"),
    ("model", "nothing", 2, r"returned NoneType; the factory must return"),
    ("model", "in_use", 70, r"failed: KeyError: 'in use' \(parts.py, line"),
    ("model", "of_mine", 70, r"client 0, round 1: .* failed: Mine: mine \(parts.py"),
    ("model", "builds_mine", 2, r"could not be built: Mine: mine \(parts.py, line"),
    ("model", "exits", 70, r"failed: SystemExit: 0 \(parts.py, line"),
    ("model", "inside_torch", 70, r"failed: RuntimeError: .*multiplied.*parts.py, li"),
    ("participation", "c_none", 70, "choose gave None; it must return an array"),
    ("participation", "c_twice", 70, r"must return distinct ids .*not \[0, 0\]"),
    ("participation", "c_float", 70, r"choose gave \[0.5\]"),
    ("participation", "c_beyond", 70, "distinct ids in ascending order from 0 to 7"),
    ("participation", "c_raises", 70, "failed: ZeroDivisionError"),
    ("participation", "p_none", 2, "called with 0|needs|missing"),
    ("placement", "p_none", 2, r"must give each of the 8 clients a host.*not None"),
    ("placement", "p_float", 2, r"must give each of the 8 clients a host.*not \[0.5"),
    ("aggregator", "r_none", 70, r"sum gave None; it must return"),
    ("aggregator", "r_nan", 70, r"it must return, on rank 0, a finite"),
    ("aggregator", "r_raises", 70, "failed: ZeroDivisionError"),
    ("aggregator", "r_object", 2, "has no sum"),
    ("algorithm", "a_none", 70, "client_step gave None; it must return a real tensor"),
    ("algorithm", "a_shape", 70, "client_step gave Tensor of shape"),
    ("algorithm", "a_raises", 70, r"client 0, round 1: .* failed: ZeroDivisionError"),
    ("algorithm", "a_leaves", 70, r"client 0, round 1: .* failed: SystemExit: 3 "),
    ("algorithm", "a_nan", 70, "server_step of round 1 gave what is not finite"),
    ("algorithm", "a_server", 70, r"failed: ZeroDivisionError: .*\(parts.py, line"),
    ("algorithm", "a_state", 2, "new_client gave None, not a dict of tensors"),
    ("algorithm", "a_sharing", 2, "needs an attribute sharing"),
    ("split.rule", "s_none", 2, "gave None for 'body.weight'; it must return True"),
    ("split.rule", "s_raises", 2, r"ValueError: rule \(parts.py, line"),
]  # fmt: skip


def command(toy, key, name, capsys):
    """Train with an own part; return exit code and what was told."""
    write("parts.py", PARTS)
    changes = {"evaluation": {"every": 1}, "rounds": 2, "participation": "full"}
    values = experiment(toy["features"], **changes)
    values["model"] = "user_parts:fragile" if key != "model" else f"parts:{name}"
    if key == "split.rule":
        values["split"] = {"rule": f"./parts.py:{name}"}
    elif key != "model":
        values[key] = f"./parts.py:{name}"
    Path("config.yaml").write_text(yaml.safe_dump(values))
    words = ["train", "config.yaml", "--run-dir", "run", "--progress", "none"]
    code = cli.main(words)
    return code, capsys.readouterr().err


@pytest.mark.parametrize(("key", "name", "code", "wanted"), IN_USE)
def test_parts_that_fail_or_give_what_they_must_not(
    toy, key, name, code, wanted, capsys
):
    found, told = command(toy, key, name, capsys)
    assert found == code, told
    assert "Traceback" not in told
    assert told.count("fedapm: error: ") == 1
    assert re.search(wanted, told), told
    kind = key.replace(".", " ")
    label = f"{kind} 'parts:{name}'" if key == "model" else f"'./parts.py:{name}'"
    assert label in told


@pytest.mark.parametrize(
    ("key", "name"), [("algorithm", "a_fine"), ("participation", "c_list")]
)
def test_parts_that_do_what_they_must(toy, key, name, capsys):
    code, told = command(toy, key, name, capsys)
    assert code == 0, told
    assert len(digest_of(Path("run"))) == 64


def test_debugging_adds_the_traceback(toy, monkeypatch, capsys):
    monkeypatch.setenv(faults.DEBUG, "1")
    _, told = command(toy, "model", "in_use", capsys)
    assert "Traceback (most recent call last)" in told
    assert told.splitlines()[-1].startswith("fedapm: error: client 0, round 1: model")
    assert 'raise KeyError("in use")' in told


def test_debug_is_an_option_of_every_command(monkeypatch, capsys):
    monkeypatch.setenv(faults.DEBUG, "0")  # so that it is put back
    assert cli.main(["report", "nowhere", "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv(faults.DEBUG, "0")
    assert cli.main(["report", "nowhere"]) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_a_fault_of_this_package_says_so():
    try:
        {}["x"]
    except KeyError as error:
        told = faults.classify(error)
    assert told.exit_code == 70
    assert re.fullmatch(
        r"internal error: KeyError: 'x' \(test_loader.py, line \d+\); please report "
        r"it, with the traceback that FEDAPM_DEBUG=1 or --debug adds",
        str(told),
    )


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (MemoryError(), "memory is full: MemoryError"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"),
         "memory is full: RuntimeError: DefaultCPUAllocator"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
         "the GPU's memory is full: OutOfMemoryError"),
    ],
)  # fmt: skip
def test_memory(error, wanted):
    told = faults.classify(error)
    assert str(told).startswith(wanted)
    assert "smaller batch_size" in str(told)
    assert told.exit_code == 70


def test_errors_keep_their_trace_on_their_way_to_other_ranks(monkeypatch):
    import pickle

    monkeypatch.setenv(faults.DEBUG, "1")
    try:
        np.zeros(2)[5]
    except IndexError as error:
        told = faults.plugin_error("model 'x:y'", error)
    other = pickle.loads(pickle.dumps(told))
    assert str(other) == str(told)
    assert "np.zeros(2)[5]" in other.trace


def test_using_passes_on_what_is_not_the_users():
    with pytest.raises(KeyError), faults.using(None):
        raise KeyError
    with pytest.raises(ConfigError), faults.using("model 'x:y'"):
        raise ConfigError
    with pytest.raises(FedAPMError, match="model 'x:y' failed: KeyError"):  # noqa: SIM117
        with faults.using("model 'x:y'"):
            raise KeyError


def test_no_own_part_is_imported_where_that_is_forbidden():
    write("own.py", "open('canary', 'w')\n" + PLAIN)
    with ownparts.forbidden("for a test"):
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
    for name in [n for n in sys.modules if n.startswith(ownparts.PREFIX)]:
        del sys.modules[name]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli.main(["train", "rounds=2", "--resume", "../run"]) == 0
