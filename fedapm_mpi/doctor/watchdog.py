"""A clock that ends a process which waits too long, and says where it stands."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from fedapm_mpi.comm.launch_env import launched_rank
from fedapm_mpi.doctor.launch_env import started_by
from fedapm_mpi.errors import ConfigError

POLL_SECONDS = 0.1
"""Seconds between two looks at the time; a new step may have less than the one before.
"""

GRACE_SECONDS = 1.0
"""Seconds that other ranks have to say where they stand, before the job ends."""

LAST_RANK_DELAY = 5.0
"""Seconds that SLURM and MPI have to end the job; they may hang as well."""

CANCELLING = 2
"""Ranks that have SLURM cancel the step: two, since one of them may hang."""


def cancel_step(variables: Mapping[str, str]) -> None:
    """Have SLURM end this step; srun alone goes on where one rank leaves or aborts."""
    if started_by(variables) != "srun" or "SLURM_JOB_ID" not in variables:
        return
    step = f"{variables['SLURM_JOB_ID']}.{variables['SLURM_STEP_ID']}"
    with suppress(OSError, subprocess.TimeoutExpired):
        # By itself, so that it goes on where SLURM is slow and this process has gone.
        subprocess.Popen(["scancel", step], start_new_session=True).wait(
            LAST_RANK_DELAY
        )


class Watchdog:
    """Ends this process, and with it the job, when a step takes too long.

    A thread does it: a collective that blocks in C cannot be interrupted.

    Parameters
    ----------
    seconds
        That a step may take.
    """

    def __init__(self, seconds: float) -> None:
        self._who = f"a process on {socket.gethostname()}"
        self._rank = launched_rank()
        self.seconds = seconds
        self._abort: Callable[[int], object] | None = None
        self._litter: Path | None = None
        self._closed = threading.Event()
        self.step("starting MPI")
        threading.Thread(target=self._run, daemon=True).start()

    def knows(self, rank: int, size: int, abort: Callable[[int], object]) -> None:
        """Tell it which rank this is, and how the whole job is ended."""
        self._rank = rank
        self._who = f"rank {rank} of {size} on {socket.gethostname()}"
        self._abort = abort

    def step(self, name: str, seconds: float | None = None) -> None:
        """Begin a step; from now on steps may take other `seconds`, where given."""
        self.seconds = seconds or self.seconds
        self._step = name
        self._deadline = time.monotonic() + self.seconds

    def removes(self, folder: Path | None) -> None:
        """Name a folder to be removed if a step takes too long; `None` for none."""
        self._litter = folder

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(POLL_SECONDS):
            if time.monotonic() >= self._deadline:
                self._end()

    def _end(self) -> None:
        sys.stderr.write(
            f"fedapm doctor: fault: {self._who} has been at '{self._step}' for "
            f"{self.seconds:g} s; ranks that do not say so hang, look at their hosts; "
            "where all is well and only slow, raise --timeout\n"
        )
        sys.stderr.flush()
        if self._litter is not None:
            shutil.rmtree(self._litter, ignore_errors=True)
        time.sleep(GRACE_SECONDS)
        threading.Timer(LAST_RANK_DELAY, os._exit, (ConfigError.exit_code,)).start()
        if self._rank < CANCELLING:
            cancel_step(os.environ)
        if self._abort is not None:
            self._abort(ConfigError.exit_code)
        os._exit(ConfigError.exit_code)
