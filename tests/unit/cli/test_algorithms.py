"""The lists of algorithms, local optimizers and schedules."""

import inspect
import re
import subprocess
import sys

import pytest
import torch

from fedapm_mpi.cli.algorithms import described, with_defaults
from fedapm_mpi.cli.main import main
from fedapm_mpi.config.loader import validate
from fedapm_mpi.config.yaml_io import parse
from tests.unit.config.test_loader import changed


def listed(capsys):
    """Return the printed options of each optimizer and of each schedule, by name."""
    assert main(["algorithms", "--optimizers"]) == 0
    printed = capsys.readouterr().out
    found = {}
    for part in printed.split("\nSchedules"):
        names = re.findall(r"^([a-z]+)  +\S", part, re.MULTILINE)
        options = re.findall(r"^ +options: (.*)$", part, re.MULTILINE)
        assert len(names) == len(options)
        found[len(found)] = dict(zip(names, options, strict=True))
    return found[0], found[1]


def defaults(text):
    """Return the options in brackets, with their values as a configuration's."""
    inside = re.findall(r"\[(\w+)=((?:\[[^]]*\])|[^]]*)\]", text)
    return {name: parse(value) for name, value in inside}


def test_torchs_options_and_defaults_are_those_of_its_own_constructors(capsys):
    optimizers, _ = listed(capsys)
    kinds = {name.lower(): kind for name, kind in vars(torch.optim).items()
             if inspect.isclass(kind)}  # fmt: skip
    for name in ("adam", "adamw", "rmsprop", "rprop", "adafactor", "asgd", "sgd"):
        torchs = inspect.signature(kinds[name]).parameters
        printed = defaults(optimizers[name])
        assert printed, name
        for option, value in printed.items():
            default = torchs[option].default
            default = list(default) if isinstance(default, tuple) else default
            assert value == default, (name, option)
    assert "lr=" not in str(optimizers)
    assert "foreach" not in str(optimizers)


def test_what_is_listed_is_what_a_configuration_takes(capsys):
    """With the defaults that it writes out; needed options are those without one."""
    parts = dict(zip(("optimizer", "schedule"), listed(capsys), strict=True))
    needed = {"step": {"every": 2}, "exponential": {"gamma": 0.9}}
    for key, plugins in parts.items():
        for name, options in plugins.items():
            given = {"name": name} | needed.get(name, {})
            part = getattr(validate(changed(**{key: given}), "x"), key)
            bare = re.sub(r"\[\w+=(?:\[[^]]*\]|[^]]*)\](?:, )?", "", options)
            words = {word for word in bare.replace("none", "").split(", ") if word}
            assert words == set(needed.get(name, {})), (name, options)
            for option, value in defaults(options).items():
                found = part[option]
                found = list(found) if isinstance(found, tuple) else found
                assert found == value, (name, option)


def test_a_schedule_has_its_source(capsys):
    assert main(["algorithms", "--optimizers"]) == 0
    printed = capsys.readouterr().out
    assert "from: Loshchilov and Hutter" in printed
    assert "each also with [state=reset], [personal], [shared]" in printed
    assert "[warmup=0], [rounds], [unit=round]" in printed


def test_the_list_of_algorithms_names_the_other_list_and_needs_no_torch():
    code = """
import sys
from fedapm_mpi.cli.main import main
assert main(["algorithms"]) == 0
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith(": fedapm algorithms --optimizers\n")
    assert re.search(r"^fedapm +FedAPM: consensus ADMM", done.stdout, re.MULTILINE)


def test_a_description_is_the_first_line_and_the_reference():
    text = """One line.

    More.

    Reference: Author, "A well-
    known method", 2020.

    Afterwards.
    """
    assert described(text) == ("One line.", 'Author, "A well-known method", 2020.')
    assert described(None) == ("", "")


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        (lambda: None, ""),
        (lambda *, a, b=None, c=True: (a, b, c), "a, [b=null], [c=true]"),
        (lambda x=(None, 0.5), y="z": (x, y), "[x=[null, 0.5]], [y='z']"),
    ],
)
def test_defaults_are_as_a_configuration_has_them(factory, expected):
    assert with_defaults(factory) == expected
