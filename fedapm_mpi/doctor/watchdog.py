"""A watchdog that ends a process which is blocked too long, and reports where."""

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from fedapm_mpi.comm.launch_env import launched_rank
from fedapm_mpi.doctor.launch_env import started_by
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.terminal import print_error

POLL_SECONDS = 0.1
"""Seconds between two looks at the clock; a step may be shorter than the one before."""

GRACE_SECONDS = 1.0
"""Seconds in which other ranks report their step before the job ends."""

ABORT_SECONDS = 5.0
"""Seconds that SLURM and MPI have to end the job; they may hang as well."""

CANCELLING_RANKS = 2
"""Number of first ranks that have SLURM cancel the step: one of two may hang."""


def cancel_step(variables: Mapping[str, str]) -> None:
    """Have SLURM end this step, which srun continues when one rank aborts."""
    if started_by(variables) != "srun" or "SLURM_JOB_ID" not in variables:
        return
    step = f"{variables['SLURM_JOB_ID']}.{variables['SLURM_STEP_ID']}"
    with suppress(OSError, subprocess.TimeoutExpired):
        # In its own session: it continues after this process if SLURM is slow.
        subprocess.Popen(["scancel", step], start_new_session=True).wait(ABORT_SECONDS)


class Watchdog:
    """Ends this process, and with it the job, when a step takes too long.

    A thread does it: a collective that blocks in C cannot be interrupted.

    Parameters
    ----------
    seconds
        Maximum duration of a step.
    """

    def __init__(self, seconds: float) -> None:
        self._process = f"a process on {socket.gethostname()}"
        self._rank = launched_rank()
        self.seconds = seconds
        self._abort: Callable[[int], object] | None = None
        self._folder: Path | None = None
        self._closed = threading.Event()
        self.step("starting MPI")
        threading.Thread(target=self._run, daemon=True).start()

    def set_rank(self, rank: int, size: int, abort: Callable[[int], object]) -> None:
        """Set the rank of this process, and the function that ends the whole job."""
        self._rank = rank
        self._process = f"rank {rank} of {size} on {socket.gethostname()}"
        self._abort = abort

    def step(self, name: str, seconds: float | None = None) -> None:
        """Begin a step; with `seconds`, change the maximum duration from now on."""
        self.seconds = seconds or self.seconds
        self._step = name
        self._deadline = time.monotonic() + self.seconds

    def set_cleanup(self, folder: Path | None) -> None:
        """Set a folder to remove if a step takes too long; `None` for none."""
        self._folder = folder

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(POLL_SECONDS):
            if time.monotonic() >= self._deadline:
                self._end()

    def _end(self) -> None:
        # Not by `logging`: a blocked thread may hold its lock; see `utils.log`.
        print_error(
            f"fedapm doctor: fault: {self._process} has been at '{self._step}' for "
            f"{self.seconds:g} s; ranks that do not report this hang: check their "
            "hosts; if they are only slow, raise --timeout"
        )
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        time.sleep(GRACE_SECONDS)
        threading.Timer(ABORT_SECONDS, os._exit, (ConfigError.exit_code,)).start()
        if self._rank < CANCELLING_RANKS:
            cancel_step(os.environ)
        if self._abort is not None:
            self._abort(ConfigError.exit_code)
        os._exit(ConfigError.exit_code)
