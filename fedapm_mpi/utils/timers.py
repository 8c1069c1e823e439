"""Timers of a round and its phases."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class PhaseTimer:
    """Seconds spent in named phases of a round."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to the phase `name`."""
        begin = perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - begin


class LapTimer:
    """Seconds from one call to the next."""

    def __init__(self) -> None:
        self._before: float | None = None

    def __call__(self) -> float | None:
        """Return the seconds since the call before; `None` at the first."""
        now, before = perf_counter(), self._before
        self._before = now
        return None if before is None else now - before
