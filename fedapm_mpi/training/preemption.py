"""Stop between two rounds: on a signal, or before the job's time is up."""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fedapm_mpi.comm.launch_env import launched_rank
from fedapm_mpi.utils.signals import handled_signals
from fedapm_mpi.utils.terminal import print_error

GRACE_SECONDS = 20.0
"""Seconds kept for the end: a checkpoint on a slow disk, and ranks that leave."""

SIGNALS = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    *(signal.SIGUSR1, signal.SIGUSR2),
)


@dataclass
class PreemptionGuard:
    """Whether a run is to stop after the present round."""

    requested: int = 0
    """0 or 1; a number, since ranks agree on it by a maximum."""

    deadline: float = math.inf
    """Seconds since the epoch at which all must be over."""

    started: float = field(default_factory=time.time)
    """When the process began with it."""

    hint: str = ""
    """What to do after an interrupt that does not wait for the end of the round."""

    install: Callable[[], object] = lambda: None
    """Installs the handlers of signals again; UCX below MPI takes SIGHUP for itself."""

    _begun: float | None = field(default=None, init=False)
    _longest: float = field(default=0.0, init=False)

    def begin_round(self) -> None:
        """Record how long the previous round took, with its checkpoint."""
        now = time.time()
        if self._begun is not None:
            self._longest = max(self._longest, now - self._begun)
        self._begun = now

    def should_stop(self) -> int:
        """Return 1 if the run is to stop after this round, else 0.

        That is if the rest of this round and all of another, either as long as the
        longest so far, would not end `GRACE_SECONDS` seconds before the deadline.
        """
        now = time.time()
        longest = max(self._longest, now - (self._begun or now))
        late = now + 2 * longest + GRACE_SECONDS > self.deadline
        return max(self.requested, int(late))


@contextmanager
def stop_signals() -> Iterator[PreemptionGuard]:
    """Handle SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 as requests to stop.

    The run stops after the current round. The deadline is the end of the scheduler's
    job, where it is known. A second SIGINT, from a user who does not want to wait,
    interrupts at once. A SIGHUP comes when the terminal is closed; under nohup it stays
    ignored. Afterwards SIGUSR1 and SIGUSR2 are ignored: one that comes late, when the
    run is over, must not end the process.
    """
    stop = PreemptionGuard(deadline=job_end_time())

    def ask(number: int, frame: Any) -> None:
        if number == signal.SIGINT:
            if interrupted:
                raise KeyboardInterrupt(stop.hint)
            interrupted.append(number)
            _announce_once()
        stop.requested = 1

    interrupted: list[int] = []
    before: dict[int, Any] = {
        n: signal.signal(n, ask) for n in handled_signals(SIGNALS)
    }

    def install() -> None:
        for number in SIGNALS:
            signal.signal(number, ask if number in before else signal.SIG_IGN)

    stop.install = install
    try:
        yield stop
    finally:
        for number, handler in before.items():
            late = number in (signal.SIGUSR1, signal.SIGUSR2)
            signal.signal(number, signal.SIG_IGN if late else handler)


def _announce_once() -> None:
    """Say what the first Ctrl-C does; only rank 0 does."""
    if launched_rank() == 0:
        print_error(  # in a handler of a signal, which must not log; see `utils.log`
            "fedapm: stopping at the end of this round; press Ctrl-C again to stop at "
            "once"
        )


def job_end_time() -> float:
    """Return when the SLURM job ends, in seconds since the epoch; else infinity."""
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    return float(end) if end.isdigit() and int(end) > 0 else math.inf
