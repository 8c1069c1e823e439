"""Signals that a program may handle."""

import signal
from collections.abc import Iterable


def handled_signals(numbers: Iterable[int]) -> list[int]:
    """Return the signals to handle: SIGHUP only if nohup does not ignore it."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [n for n in numbers if not (ignored and n == signal.SIGHUP)]
