"""Notes, warnings and errors of the program, by the standard library's `logging`.

A module logs with ``log = get_logger(__name__)``. One handler writes each record in one
write that never fails: notes (INFO) to standard output, the rest to standard error. In
a program that uses this package as a library, ``logging.getLogger("fedapm_mpi")`` is
where handlers are replaced.

What handlers of signals, dying processes and other threads have to say is not logged
but written by `terminal.print_error` or `os.write`: a handler may run in the middle of
a call of `logging` that it interrupted, or wait for a lock that another thread holds.
"""

import logging

from fedapm_mpi.utils import terminal

ROOT = "fedapm_mpi"

_PREFIXES = {
    logging.INFO: "note: ",
    logging.WARNING: "fedapm: ",
    logging.ERROR: "fedapm: error: ",
}


class TerminalFormatter(logging.Formatter):
    """Puts what a record is before its message, and a traceback before both.

    What it is follows from its level, or is given as ``extra={"prefix": "+ "}``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as text."""
        trace = record.__dict__.get("trace", "")
        usual = _PREFIXES.get(record.levelno, "")
        prefix = record.__dict__.get("prefix", usual)
        return f"{trace}{prefix}{record.getMessage()}"


class TerminalHandler(logging.Handler):
    """Writes records to the streams that are standard output and error at the time."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(TerminalFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record in one write."""
        write = (
            terminal.echo if record.levelno <= logging.INFO else terminal.print_error
        )
        write(self.format(record))


def get_logger(name: str) -> logging.Logger:
    """Return a module's logger, below that of the package."""
    inside = name == ROOT or name.startswith(f"{ROOT}.")
    return logging.getLogger(name if inside else f"{ROOT}.{name}")


def only_errors() -> None:
    """Drop notes and warnings, on a rank other than the one that reports them.

    An error is written by the rank that has it: others may wait for that rank.
    """
    _handler.setLevel(logging.ERROR)


_handler = TerminalHandler()


def _set_up() -> None:
    logger = logging.getLogger(ROOT)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # else a root handler would write every line twice
    logger.addHandler(_handler)


_set_up()
