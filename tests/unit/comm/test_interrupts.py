"""Ctrl-C at any moment: a sentence and exit code 75 or 130, never a traceback."""

import os
import signal
import subprocess
import sys
import time

import pytest

from fedapm_mpi.cli import main as cli
from fedapm_mpi.cluster import supervisor as supervising
from fedapm_mpi.comm import Serial
from fedapm_mpi.comm.runtime import on_ranks
from fedapm_mpi.training.preemption import stop_signals
from tests.support.processes.cli_runs import experiment, fedapm, user_path, write_config

INTERRUPTED = "fedapm: error: interrupted\n"
STOPPING = (
    "fedapm: stopping at the end of this round; press Ctrl-C again to stop at once\n"
)


def test_the_first_asks_and_the_second_interrupts(capsys):
    with stop_signals() as stop:
        stop.hint = "continue with: fedapm train --resume runs/a"
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.should_stop() == 1
        with pytest.raises(KeyboardInterrupt, match="--resume runs/a"):
            os.kill(os.getpid(), signal.SIGINT)
    assert capsys.readouterr().err == STOPPING


def test_a_first_one_after_a_sigterm_does_not_interrupt(capsys):
    with stop_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.should_stop() == 1
    assert capsys.readouterr().err == STOPPING


@pytest.mark.parametrize(("handler", "due"), [(signal.SIG_DFL, 1), (signal.SIG_IGN, 0)])
def test_a_closed_terminal_asks_unless_nohup_was_there(handler, due):
    before = signal.signal(signal.SIGHUP, handler)
    try:
        with stop_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.should_stop() == due
        assert signal.getsignal(signal.SIGHUP) is handler
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_library_that_takes_a_signal_does_not_keep_it(handler):
    """As UCX takes SIGHUP when MPI starts, to print its debugging output from then."""
    before = signal.signal(signal.SIGHUP, handler)
    try:
        with stop_signals() as stop:
            signal.signal(signal.SIGHUP, lambda number, frame: None)
            stop.install()
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.requested == (handler == signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupted_rank_says_a_sentence(capsys):
    def body(comm):
        assert isinstance(comm, Serial)
        raise KeyboardInterrupt("continue with: fedapm train --resume runs/a")

    assert on_ranks(body) == 130
    assert capsys.readouterr().err == (
        "fedapm: error: interrupted; continue with: fedapm train --resume runs/a\n"
    )


@pytest.mark.parametrize("command", ["report", "inspect", "sweep", "scale", "prepare"])
def test_other_commands_are_interrupted(command, monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run_alone", interrupted)
    monkeypatch.setattr(cli, "_run_parallel", interrupted)
    assert cli.main([command]) == 130
    assert capsys.readouterr().err == INTERRUPTED


@pytest.mark.parametrize("moment", ["import", "destructor", "command"])
def test_the_program_never_ends_in_a_traceback(moment):
    """Where Python would print one, and in a destructor go on as if nothing were."""
    code = {
        "import": "import sys; sys.argv[0] = 'fedapm'\nimport fedapm_mpi\n"
        "raise KeyboardInterrupt",
        "destructor": "import sys; sys.argv[0] = 'fedapm'\n"
        "from fedapm_mpi.cli import main as cli\n"
        "class Late:\n    def __del__(self): raise KeyboardInterrupt\n"
        "def run(arguments):\n    late = Late()\n    del late\n    return 0\n"
        "cli._run_alone = run\nsys.argv[1:] = ['inspect']\nsys.exit(cli.main())",
        # A shell's background processes ignore the signal, and so would this one.
        "command": "import sys, os, signal; sys.argv[0] = 'fedapm'\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from fedapm_mpi.cli import main as cli\n"
        "def run(arguments):\n    os.kill(os.getpid(), signal.SIGINT)\n    return 0\n"
        "cli._run_alone = run\nsys.argv[1:] = ['inspect']\nsys.exit(cli.main())",
    }[moment]
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (130, INTERRUPTED)


def test_a_second_interrupt_ends_a_run_that_can_continue(toy, tmp_path):
    values = experiment(toy["features"], rounds=100_000, checkpoint={"every": 50})
    path, run = write_config(tmp_path / "a.yaml", values), tmp_path / "run"
    words = fedapm("train", path, "--run-dir", run, "--progress", "none")
    process = subprocess.Popen(
        [sys.executable, *words], stderr=subprocess.PIPE, text=True,
        env=os.environ | user_path(),
    )  # fmt: skip
    end = time.monotonic() + 60
    while not list(run.glob("checkpoints/round-*")) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGSTOP)  # so that no round ends between the two
    for number in (signal.SIGINT, signal.SIGCONT):
        process.send_signal(number)
    assert process.stderr.readline() == STOPPING
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[0:2][1]
    assert "Traceback" not in rest
    if process.returncode == 130:
        again = f"fedapm train --resume {run}"
        hint = f"continue from the last checkpoint with: {again}"
        assert rest == f"fedapm: error: interrupted; {hint}\n"
    else:  # the round ended before the second came
        assert (process.returncode, rest) == (75, "")


def test_a_terminals_interrupt_reaches_a_launcher_once(monkeypatch, tmp_path):
    """The launcher has it from the terminal; elsewhere it is passed on."""
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(5))\n"
        f"open({str(tmp_path / 'up')!r}, 'w').close()\n"
        "time.sleep(float(sys.argv[1]))\nsys.exit(6)"
    )
    for foreground, seconds, code_then in ((True, "1.5", 6), (False, "30", 5)):
        monkeypatch.setattr(supervising, "_in_foreground", lambda f=foreground: f)
        (tmp_path / "up").unlink(missing_ok=True)
        killer = subprocess.Popen(
            ["sh", "-c", f"while [ ! -e {tmp_path}/up ]; do sleep 0.05; done; "
             f"kill -INT {os.getpid()}"],
        )  # fmt: skip
        ended = supervising.run_launcher([sys.executable, "-c", code, seconds])
        killer.wait()
        assert ended == supervising.LauncherExit(code_then, frozenset({signal.SIGINT}))
        assert not ended.resumable
