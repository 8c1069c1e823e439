"""The switches are set in time, or a sentence says why not."""

import json
import subprocess
import sys

import pytest

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils import kernels

needs_avx2 = pytest.mark.skipif(
    kernels.processor_lacks() is not None, reason="the processor lacks AVX2"
)


def cpuinfo(path, flags):
    path.write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\n")
    return path


def run(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin", "PYTHONPATH": ":".join(filter(None, sys.path)), **env},
    )


@pytest.mark.parametrize("machine", ["x86_64", "AMD64"])
def test_a_processor_with_avx2_and_fma_suits(tmp_path, machine):
    info = cpuinfo(tmp_path / "cpuinfo", "avx avx2 fma avx512f")
    assert kernels.processor_lacks(machine, info) is None


@pytest.mark.parametrize(
    ("machine", "flags", "text"),
    [
        ("aarch64", "avx2 fma", "needs an x86-64 processor, and this is aarch64"),
        ("x86_64", "avx", "AVX2 and FMA, which this one lacks"),
        ("x86_64", "avx2", "with FMA"),
        ("x86_64", "avx512_avx2 fma", "with AVX2"),
    ],
)
def test_others_are_named(tmp_path, machine, flags, text):
    found = kernels.processor_lacks(machine, cpuinfo(tmp_path / "cpuinfo", flags))
    assert text in found


def test_an_unknown_processor_does_not_suit(tmp_path):
    found = kernels.processor_lacks("x86_64", tmp_path / "none")
    assert "instructions" in found


def test_too_late_in_a_process_that_has_loaded_torch():
    import torch  # noqa: F401

    if kernels.processor_lacks() is None and not kernels.in_force():
        with pytest.raises(ConfigError, match="numpy and torch are imported"):
            kernels.use_portable()
    assert not kernels.chosen_here()


def test_native_changes_nothing():
    kernels.use(kernels.NATIVE)
    assert not kernels.chosen_here()


def test_the_initial_environment_is_not_the_present_one(tmp_path, monkeypatch):
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    path = tmp_path / "environ"
    path.write_bytes(b"MKL_CBWR=AVX2\0EMPTY=\0TWO=a=b\0broken\0")
    found = kernels.initial_environment(path)
    assert found == {"MKL_CBWR": "AVX2", "EMPTY": "", "TWO": "a=b"}
    assert kernels.initial_environment(tmp_path / "none") == {}


@needs_avx2
def test_switches_replace_what_the_environment_has():
    code = (
        "import os, json, fedapm_mpi\n"
        "fedapm_mpi.use_portable_kernels()\n"
        "fedapm_mpi.use_portable_kernels()\n"
        "print(json.dumps(dict(os.environ)))\n"
    )
    hostile = {"MKL_CBWR": "AVX2", "NPY_ENABLE_CPU_FEATURES": "X86_V4"}
    ended = run(code, **hostile)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert {name: found[name] for name in kernels.SWITCHES} == kernels.SWITCHES
    assert not set(kernels.OTHERS) & found.keys()


@needs_avx2
def test_a_process_started_with_the_switches_may_have_loaded_numpy():
    code = (
        "import numpy\nfrom fedapm_mpi.utils import kernels\n"
        "kernels.use('portable')\nprint(kernels.in_force(), kernels.chosen_here())\n"
    )
    assert run(code, **kernels.SWITCHES).stdout.split() == ["True", "False"]
    assert "before numpy is imported" in run(code).stderr
    other = kernels.SWITCHES | {"MKL_ENABLE_INSTRUCTIONS": "AVX2"}
    assert "before numpy is imported" in run(code, **other).stderr
