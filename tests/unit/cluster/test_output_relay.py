"""What stands between a launcher and a reader that may go away."""

import contextlib
import os
import subprocess
import sys
import time

import pytest

from fedapm_mpi.cluster.output_relay import copy_stream
from fedapm_mpi.utils import terminal

BECOMES = (
    "import os, sys\n"
    "from fedapm_mpi.cluster.output_relay import relay_outputs\n"
    "relay_outputs()\n"
    "os.execv('/bin/sh', ['sh', '-c', sys.argv[1]])"
)
"""A program that becomes another, which dies of a write that fails, as mpiexec does."""


def start(script, **outputs):
    return subprocess.Popen([sys.executable, "-c", BECOMES, script], **outputs)


def test_all_that_is_written_comes_through_in_order():
    process = start(
        "for k in 1 2 3; do echo out $k; echo err $k >&2; done; exit 7",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    printed = process.communicate(timeout=30)[0].decode()
    assert printed == "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n"
    assert process.returncode == 7


def test_two_pipes_stay_two():
    process = start(
        "echo out; echo err >&2", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.communicate(timeout=30) == (b"out\n", b"err\n")


@pytest.mark.parametrize("kind", ["closed pipe", "full"])
def test_writes_that_fail_end_nothing(kind):
    if kind == "full":
        target = os.open("/dev/full", os.O_WRONLY)
    else:
        gone, target = os.pipe()
        os.close(gone)
    process = start(
        "set -e; for k in $(seq 2000); do echo line $k of some length; done; exit 7",
        stdout=target, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(target)
    printed = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 7
    assert printed.startswith("fedapm: note: cannot write output (")
    assert printed.endswith("); the run continues without it\n")


def test_files_are_written_without_anybody_in_between(tmp_path):
    with (tmp_path / "out").open("wb") as file:
        process = start("readlink /proc/self/fd/1", stdout=file)
        assert process.wait(timeout=30) == 0
    assert (tmp_path / "out").read_text().strip() == str(tmp_path / "out")


def test_a_pump_does_not_wait_for_a_full_pipe_for_ever(monkeypatch):
    monkeypatch.setattr(terminal, "FULL_PIPE_SECONDS", 0.2)
    full, target = os.pipe()
    os.set_blocking(target, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(target, b"x" * 4096)
    source, writer = os.pipe()
    os.write(writer, b"y" * 1000)
    os.close(writer)
    begin = time.monotonic()
    copy_stream(source, target)
    assert 0.2 <= time.monotonic() - begin < 2
    for number in (source, target, full):
        os.close(number)


def test_a_pump_reads_to_the_end(tmp_path):
    source, writer = os.pipe()
    os.write(writer, b"x" * 1000)
    os.close(writer)
    with (tmp_path / "out").open("wb") as file:
        copy_stream(source, file.fileno())
    os.close(source)
    assert (tmp_path / "out").read_bytes() == b"x" * 1000
