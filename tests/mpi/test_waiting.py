"""Idle ranks cost no core, and hear signals."""

import os
import signal
import threading
import time

import pytest

pytestmark = pytest.mark.mpi

LATE = 1.0
"""Seconds that the last rank lets the others wait."""


@pytest.fixture
def late(world):
    """Return whether this rank comes late; all ranks start together."""
    if world.size == 1:
        pytest.skip("no rank to wait for")
    world.barrier()
    return world.rank == world.size - 1


@pytest.mark.parametrize(
    "collective", ["wait", "broadcast", "maximum", "agree", "open"]
)
def test_waiting_burns_no_core(world, late, collective):
    import numpy as np

    array = np.zeros(10)
    call = {
        "wait": world.barrier,
        "broadcast": lambda: world.broadcast(array),
        "maximum": lambda: world.allreduce_max([1.0]),
        "agree": lambda: world.raise_collectively(None),
        "open": lambda: type(world)(world._comm),
    }[collective]
    if late:
        time.sleep(LATE)
    begin, cpu = time.monotonic(), time.process_time()
    call()
    waited, burnt = time.monotonic() - begin, time.process_time() - cpu
    if not late:
        assert waited > 0.8 * LATE
        assert burnt < 0.2 * waited


def test_signal_handlers_run_while_waiting(world, late):
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append(time.monotonic()))
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        timer.start()
        if late:
            time.sleep(LATE)
        world.barrier()
        over = time.monotonic()
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert len(heard) == 1
    if not late:
        assert over - heard[0] > 0.5 * LATE
