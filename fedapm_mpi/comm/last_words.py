"""Wait until the launcher has read what a rank has printed."""

import fcntl
import os
import stat
import sys
import termios
import time
from array import array

LIMIT_SECONDS = 5.0
"""How long to wait for a reader; one that is stopped or stuck must not stop the end."""

POLL_SECONDS = 0.01


def wait_until_read(limit: float = LIMIT_SECONDS) -> None:
    """Return once the pipes of stdout and stderr are empty.

    A launcher hears of ``MPI_Abort`` by another way than the pipes that it reads output
    from. MPICH's hydra, if it did not run while a rank printed an error and aborted,
    ends the job with the error unread (seen with 5.0 at ``MPI_COMM_WORLD``).

    Parameters
    ----------
    limit
        Seconds to wait at most.
    """
    end = time.monotonic() + limit
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
            number = stream.fileno()
            # The same request asks a terminal for what its user has typed.
            if not stat.S_ISFIFO(os.fstat(number).st_mode):
                continue
            while _unread(number) and time.monotonic() < end:
                time.sleep(POLL_SECONDS)
        except (OSError, ValueError, AttributeError):
            continue  # closed, replaced by another object, or none: it has no reader


def _unread(pipe: int) -> int:
    """Return the bytes in a pipe that its reader has not taken."""
    count = array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]
