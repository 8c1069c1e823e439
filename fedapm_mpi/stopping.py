"""Stop at a round border when the scheduler or the user asks for it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Stop:
    """Whether somebody wants the run to stop."""

    asked: int = 0
    """0 or 1; a number, since ranks agree on it by a maximum."""


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Turn SIGTERM, SIGINT and SIGUSR1 into a wish to stop at the next round border.

    A second SIGINT, from somebody who does not want to wait, interrupts at once.
    """
    stop = Stop()

    def ask(number: int, frame: Any) -> None:
        if stop.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.asked = 1

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before: dict[int, Any] = {n: signal.signal(n, ask) for n in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
