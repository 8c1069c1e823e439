"""Functions that stop where they ask for something, and go on when all have it.

Each function has a thread, of which one runs at a time: the order in which functions
run, and so all that they do, is fixed.
"""

from collections.abc import Callable, Sequence
from threading import Semaphore, Thread
from typing import Any, Generic, TypeVar

Request = TypeVar("Request")
Result = TypeVar("Result")

Ask = Callable[[Request], None]
"""Asks for something, and returns when it is there; raises what went wrong with it."""


class Abandoned(BaseException):
    """Ends a function whose caller has given up."""


class Asked(Generic[Request]):
    """What a function asks for."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.error: BaseException | None = None
        """What its function is to raise."""


class _Lane(Generic[Request, Result]):
    """A thread that runs one function after another, each up to where it asks."""

    def __init__(self) -> None:
        self._go, self._back = Semaphore(0), Semaphore(0)
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def begin(self, function: Callable[[Ask[Request]], Result]) -> None:
        """Take a function, which `resume` then runs."""
        self.function: Callable[[Ask[Request]], Result] | None = function
        self.asked: Asked[Request] | None = None
        self.result: Result | BaseException | None = None
        self.ended = self.abandoned = False

    def resume(self) -> None:
        """Let the function run until it asks for something, or ends."""
        self._go.release()
        self._back.acquire()

    def stop(self) -> None:
        """End the thread, which has no function."""
        self.function = None
        self._go.release()

    def _run(self) -> None:
        while True:
            self._go.acquire()
            if self.function is None:
                return
            try:
                self.result = self.function(self._ask)
            except BaseException as error:
                self.result = error
            self.function = None
            self.ended = True
            self._back.release()

    def _ask(self, request: Request) -> None:
        asked = self.asked = Asked(request)
        self._back.release()
        self._go.acquire()
        self.asked = None
        if self.abandoned:
            raise Abandoned
        if asked.error is not None:
            raise asked.error


class Lockstep(Generic[Request, Result]):
    """Runs functions one by one, each up to what it asks for, until all have ended.

    Its threads wait for the next functions when these have ended.
    """

    def __init__(self) -> None:
        self._lanes: list[_Lane[Request, Result]] = []

    def run(
        self,
        functions: Sequence[Callable[[Ask[Request]], Result]],
        serve: Callable[[list[Asked[Request]]], None],
    ) -> list[Result | BaseException]:
        """Return what each function has returned or raised.

        Parameters
        ----------
        functions
            Each gets a callable to ask by.
        serve
            Gets what is asked for, in the order of the functions, once none can go on.
        """
        while len(self._lanes) < len(functions):
            self._lanes.append(_Lane())
        lanes = self._lanes[: len(functions)]
        for lane, function in zip(lanes, functions, strict=True):
            lane.begin(function)
        try:
            going = lanes
            while going:
                for lane in going:
                    lane.resume()
                going = [lane for lane in lanes if not lane.ended]
                if going:
                    serve([lane.asked for lane in going if lane.asked is not None])
        except BaseException:
            self._abandon(lanes)
            raise
        found: list[Any] = [lane.result for lane in lanes]
        return found

    def _abandon(self, lanes: Sequence[_Lane[Request, Result]]) -> None:
        """End functions that have asked for something; their threads are not reused."""
        self._lanes = []
        for lane in lanes:
            if not lane.ended and lane.asked is not None:
                lane.abandoned = True
                lane.resume()
            if lane.ended:
                lane.stop()
