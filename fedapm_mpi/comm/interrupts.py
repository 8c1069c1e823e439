"""Ctrl-C at any moment: one sentence and exit code 130, never a traceback."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fedapm_mpi.utils.early_interrupt import INTERRUPTED
from fedapm_mpi.utils.terminal import print_error


def report_interrupt(hint: str = "") -> None:
    """Say that a command was interrupted, in one write.

    Parameters
    ----------
    hint
        What to do now, if there is more to say than to run the command again.
    """
    from fedapm_mpi.comm.launch_env import (  # NumPy comes with it
        launched_rank,
        launched_size,
    )

    where = ""
    if launched_size()[0] > 1 and (rank := launched_rank()):
        where = f"rank {rank}: "
    # Not logged: an interrupt may have come in the middle of `logging` itself.
    print_error(f"fedapm: error: {where}interrupted{f'; {hint}' if hint else ''}")


@contextmanager
def interruptible() -> Iterator[None]:
    """End the process with a sentence where an interrupt would be lost.

    Python prints a traceback of a `KeyboardInterrupt` in a destructor or a callback,
    and then continues as if there had been none. Once the command is over, the process
    is on its way out, and a SIGINT is too late to matter.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            report_interrupt(str(unraisable.exc_value or ""))
            os._exit(INTERRUPTED)
        before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
