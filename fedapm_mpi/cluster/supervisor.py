"""Run a launcher, pass signals on to it, and requeue the SLURM job."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from typing import Any, NamedTuple

from fedapm_mpi.errors import EXIT_RESUMABLE, ConfigError, DataError, FedAPMError
from fedapm_mpi.utils.log import get_logger
from fedapm_mpi.utils.signals import handled_signals

log = get_logger(__name__)

FINAL_EXIT_CODES = (
    0,
    ConfigError.exit_code,
    DataError.exit_code,
    FedAPMError.exit_code,
)
"""Exit codes of runs that are over, or that would fail again."""

SIGNALS: dict[int, int] = {
    signal.SIGUSR1: signal.SIGUSR1,
    signal.SIGUSR2: signal.SIGUSR1,
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGHUP: signal.SIGTERM,
    signal.SIGINT: signal.SIGINT,
}
"""Signals, and what is sent to a launcher instead: those that all launchers forward."""


class LauncherExit(NamedTuple):
    """How a launcher ended."""

    code: int
    """Its exit code; 128 more than the signal that ended it."""

    signals: frozenset[int]
    """Signals that arrived while it ran."""

    @property
    def resumable(self) -> bool:
        """Whether the run should be continued in another job.

        Not if it was cancelled or has failed. Ranks that stop early exit with 75; a
        launcher that kills the last of them while they exit may report a signal.
        """
        ending = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        if self.signals & ending or self.code in FINAL_EXIT_CODES:
            return False
        return self.code == EXIT_RESUMABLE or bool(self.signals)


def run_launcher(command: Sequence[str], **options: Any) -> LauncherExit:
    """Run a launcher to its end and pass signals on to its ranks.

    See `SIGNALS` for how. A terminal's Ctrl-C reaches all of its processes, including
    the launcher. It is not passed on: a second one would end a run at once.

    Parameters
    ----------
    command
        The launcher and what it starts.
    **options
        For `subprocess.Popen`.

    Raises
    ------
    ConfigError
        If the launcher cannot be started.
    """
    arrived: set[int] = set()
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, frame: Any) -> None:
        arrived.add(number)
        if number == signal.SIGINT and _in_foreground():
            return
        if process is not None:
            process.send_signal(SIGNALS[number])

    before: dict[int, Any] = {
        n: signal.signal(n, pass_on) for n in handled_signals(SIGNALS)
    }
    try:
        process = subprocess.Popen(command, **options)
        for number in list(arrived):  # before the launcher was started
            pass_on(number, None)
        code = process.wait()
    except OSError as error:
        msg = f"cannot start {command[0]}: {error.strerror}"
        raise ConfigError(msg) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return LauncherExit(code if code >= 0 else 128 - code, frozenset(arrived))


def _in_foreground() -> bool:
    """Return whether this process is in the foreground of a terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def report_failure(ended: LauncherExit) -> None:
    """Report that ranks failed and how to continue: killed ranks cannot report it."""
    if ended.code not in (*FINAL_EXIT_CODES, EXIT_RESUMABLE) and not ended.signals:
        _report(
            f"the launcher ended with exit code {ended.code}, so a rank was killed or "
            "has failed; if the run has a checkpoint, continue it with --resume"
        )


def requeue() -> None:
    """Requeue this SLURM job, unless it is being cancelled."""
    job, scontrol = os.environ.get("SLURM_JOB_ID"), shutil.which("scontrol")
    if not job or scontrol is None:
        _report(
            "stopped early, and no SLURM job to requeue; submit it again to continue"
        )
        return
    shown = _call(scontrol, "show", "job", "--oneliner", job)
    state = re.search(r"\bJobState=(\w+)", shown.stdout)
    if state is None or state[1] != "RUNNING":
        _report(f"job {job} is {state[1] if state else 'unknown'}: not requeued")
        return
    _report(f"job {job}: back into the queue")
    done = _call(scontrol, "requeue", job)
    if done.returncode != 0:
        _report(f"not possible ({done.stderr.strip()}); submit it again to continue")


def _call(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _report(text: str) -> None:
    log.warning("%s", text)
