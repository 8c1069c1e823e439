"""Keep a launcher alive whose output cannot be written.

mpiexec ends its job when a write to its standard output fails, as after
``fedapm launch -n 3 train mine.yaml | head``. So if output goes into a pipe, a relay
process reads it to the end, even if the reader is gone.
"""

import errno
import os
import signal
import stat
import sys
from contextlib import suppress
from pathlib import Path

from fedapm_mpi.utils.terminal import DescriptorWriter

IGNORED = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE),
)
"""Signals to the job, which the relay process ignores."""

BLOCK_BYTES = 2**16


def relay_outputs() -> None:
    """Start relay processes for standard output and error.

    Terminals and files are not relayed. The processes that this one starts or becomes
    inherit the new outputs. A relay ends with the last of its writers.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    put: dict[tuple[int, int], int] = {}
    for number in (1, 2):
        found = os.fstat(number)
        if not _can_fail(number, found):
            continue
        # If both are one pipe, one relay keeps the order of the lines.
        key = (found.st_dev, found.st_ino)
        if key not in put:
            put[key] = _start(number)
        os.dup2(put[key], number)
    for writer in put.values():
        os.close(writer)


def copy_stream(source: int, target: int) -> None:
    """Copy until the end of `source`, even if `target` cannot be written."""
    writer: DescriptorWriter | None = DescriptorWriter(target)
    while data := os.read(source, BLOCK_BYTES):
        if writer is not None:
            try:
                writer.write(data)
            except OSError as error:
                _report(error)
                writer = None


def _can_fail(number: int, found: os.stat_result) -> bool:
    """Return whether writes may fail during the job, as when a reader goes away."""
    null = Path(os.devnull).stat()
    if stat.S_ISCHR(found.st_mode):
        return not os.isatty(number) and found.st_rdev != null.st_rdev
    return stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode)


def _start(target: int) -> int:
    """Start a process that copies to `target`; return the descriptor to write to."""
    source, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(source)
        os.waitpid(child, 0)
        return writer
    code = 0
    try:  # a grandchild, since a launcher does not expect a child that it did not start
        if os.fork() == 0:
            os.close(writer)
            os.setsid()
            for number in IGNORED:
                signal.signal(number, signal.SIG_IGN)
            copy_stream(source, target)
    except OSError:
        code = 1
    finally:
        os._exit(code)


def _report(error: OSError) -> None:
    reason = os.strerror(error.errno or errno.EIO)
    text = (
        f"fedapm: note: cannot write output ({reason}); the run continues without it\n"
    )
    with suppress(OSError):
        os.write(2, text.encode())
