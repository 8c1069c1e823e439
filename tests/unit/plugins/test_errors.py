"""What a user's part raises or returns, and how it is reported."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from fedapm_mpi.cli import main as cli
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.plugins import errors as plugin_errors
from tests.support.own_files import here, write  # noqa: F401
from tests.support.processes.cli_runs import digest_of, experiment

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


def fails_as_mine(self, x):
    raise Mine(1, 2)


of_mine = net(fails_as_mine)


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
    """Train with an own part; return exit code and standard error."""
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
    found, printed = command(toy, key, name, capsys)
    assert found == code, printed
    assert "Traceback" not in printed
    assert printed.count("fedapm: error: ") == 1
    assert re.search(wanted, printed), printed
    kind = key.replace(".", " ")
    label = f"{kind} 'parts:{name}'" if key == "model" else f"'./parts.py:{name}'"
    assert label in printed


@pytest.mark.parametrize(
    ("key", "name"), [("algorithm", "a_fine"), ("participation", "c_list")]
)
def test_parts_that_do_what_they_must(toy, key, name, capsys):
    code, printed = command(toy, key, name, capsys)
    assert code == 0, printed
    assert len(digest_of(Path("run"))) == 64


def test_debugging_adds_the_traceback(toy, monkeypatch, capsys):
    monkeypatch.setenv(plugin_errors.DEBUG, "1")
    _, printed = command(toy, "model", "in_use", capsys)
    assert "Traceback (most recent call last)" in printed
    assert printed.splitlines()[-1].startswith(
        "fedapm: error: client 0, round 1: model"
    )
    assert 'raise KeyError("in use")' in printed


def test_debug_is_an_option_of_every_command(monkeypatch, capsys):
    monkeypatch.setenv(plugin_errors.DEBUG, "0")  # so that it is put back
    assert cli.main(["report", "nowhere", "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv(plugin_errors.DEBUG, "0")
    assert cli.main(["report", "nowhere"]) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_a_fault_of_this_package_says_so():
    try:
        {}["x"]
    except KeyError as error:
        reported = plugin_errors.to_fedapm_error(error)
    assert reported.exit_code == 70
    assert re.fullmatch(
        r"internal error: KeyError: 'x' \(test_errors.py, line \d+\); please report "
        r"it, with the traceback that FEDAPM_DEBUG=1 or --debug adds",
        str(reported),
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
    reported = plugin_errors.to_fedapm_error(error)
    assert str(reported).startswith(wanted)
    assert "smaller batch_size" in str(reported)
    assert reported.exit_code == 70


def test_errors_keep_their_trace_on_their_way_to_other_ranks(monkeypatch):
    import pickle

    monkeypatch.setenv(plugin_errors.DEBUG, "1")
    try:
        np.zeros(2)[5]
    except IndexError as error:
        reported = plugin_errors.plugin_error("model 'x:y'", error)
    other = pickle.loads(pickle.dumps(reported))
    assert str(other) == str(reported)
    assert "np.zeros(2)[5]" in other.trace


def test_using_passes_on_what_is_not_the_users():
    with pytest.raises(KeyError), plugin_errors.blame(None):
        raise KeyError
    with pytest.raises(ConfigError), plugin_errors.blame("model 'x:y'"):
        raise ConfigError
    with pytest.raises(FedAPMError, match="model 'x:y' failed: KeyError"):  # noqa: SIM117
        with plugin_errors.blame("model 'x:y'"):
            raise KeyError
