"""A launcher that is watched over: signals reach it, and SLURM gets its job back."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedapm_mpi.cluster.supervisor import (
    LauncherExit,
    report_failure,
    requeue,
    run_launcher,
)
from fedapm_mpi.errors import ConfigError

USR1, USR2, TERM = signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM

RANKS = """
import os, signal, sys, time
def stop(number, frame):  # maybe in the middle of the other print
    os.write(1, f"{signal.Signals(number).name}\\n".encode())
    sys.exit(75)
signal.signal(signal.SIGUSR1, stop)
print("ready", flush=True)
time.sleep(30)
"""

WATCH = """
import sys
from fedapm_mpi.cluster.supervisor import run_launcher
ended = run_launcher([sys.executable, "-c", sys.argv[1]])
print(ended.code, sorted(ended.signals), ended.resumable)
"""


@pytest.mark.parametrize(
    ("code", "signals", "resumable"),
    [
        (0, set(), False),
        (0, {USR1}, False),  # it was done all the same
        (75, set(), True),  # by its own clock
        (75, {USR1}, True),
        (137, {USR1}, True),  # the launcher killed the last ranks on their way out
        (137, set(), False),  # a rank was killed
        (75, {TERM}, False),  # cancelled
        (75, {USR1, TERM}, False),
        (2, {USR1}, False),
        (3, {USR2}, False),
        (70, {USR1}, False),
    ],
)
def test_when_a_run_continues(code, signals, resumable):
    assert LauncherExit(code, frozenset(signals)).resumable is resumable


@pytest.mark.parametrize("number", [USR1, USR2])
def test_early_signals_reach_the_ranks_as_one(number):
    command = [sys.executable, "-c", WATCH, RANKS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        printed, _ = process.communicate(timeout=30)
    assert printed == f"SIGUSR1\n75 [{int(number)}] True\n"


def test_a_launcher_that_dies_of_a_signal():
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run_launcher([sys.executable, "-c", kill]).code == 137


def test_handlers_are_put_back():
    before = signal.getsignal(TERM)
    assert run_launcher([sys.executable, "-c", ""]) == LauncherExit(0, frozenset())
    assert signal.getsignal(TERM) is before


def test_a_launcher_that_is_not_there():
    with pytest.raises(ConfigError, match="cannot start nowhere/mpiexec: No such file"):
        run_launcher(["nowhere/mpiexec"])


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """Return a function that puts a scontrol on the PATH; it writes down its calls."""
    calls = tmp_path / "calls"
    calls.write_text("")

    def put(state: str, code: int = 0) -> Path:
        path = tmp_path / "scontrol"
        path.write_text(
            f'#!/bin/sh\necho "$@" >>{calls}\n'
            f'if [ "$1" = show ]; then echo "JobId=7 JobState={state} Reason=None"\n'
            f"else echo no >&2; exit {code}; fi\n"
        )
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        return calls

    return put


def test_a_running_job_is_requeued(scontrol, capfd):
    calls = scontrol("RUNNING")
    requeue()
    assert calls.read_text().splitlines() == ["show job --oneliner 7", "requeue 7"]
    assert capfd.readouterr().err == "fedapm: job 7: back into the queue\n"


def test_a_cancelled_job_is_not(scontrol, capfd):
    calls = scontrol("CANCELLED")
    requeue()
    assert "requeue" not in calls.read_text()
    assert "job 7 is CANCELLED: not requeued" in capfd.readouterr().err


def test_what_slurm_refuses_is_reported(scontrol, capfd):
    scontrol("RUNNING", code=1)
    requeue()
    assert "not possible (no); submit it again to continue" in capfd.readouterr().err


def test_without_slurm_it_says_how_to_continue(monkeypatch, capfd):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    requeue()
    assert "submit it again to continue" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("code", "expected"), [(0, 0), (2, 0), (70, 0), (9, 1), (137, 1)]
)
def test_for_ranks_that_were_killed_the_supervisor_speaks(code, expected, capfd):
    report_failure(LauncherExit(code, frozenset()))
    assert capfd.readouterr().err.count("continue it with --resume") == expected
