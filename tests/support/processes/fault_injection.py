"""Kill a process at a chosen file operation of a run; what a test of crashes needs."""

import os
import signal
import sys
from typing import Any

CRASH_IN = "TEST_CRASH_IN"
"""Run directory whose file operations count."""

CRASH_AT = "TEST_CRASH_AT"
"""``RANK:NUMBER``: the rank to kill, and at which of its file operations, from 1."""

OPERATIONS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree")


def arm(folder: str, number: int) -> None:
    """Let this process be killed as it begins its n-th file operation in a folder.

    Python tells its audit hooks of every operation just before it is done.
    """
    count = 0

    def hook(event: str, details: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in OPERATIONS:
            return
        # What is inside a directory that is being removed is named without its path.
        if folder in str(details[0]) or event in ("os.remove", "os.rmdir"):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def arm_from_environment(rank: int) -> None:
    """Arm this process if the environment says so."""
    if CRASH_AT in os.environ:
        victim, number = os.environ[CRASH_AT].split(":")
        if rank == int(victim):
            arm(os.environ[CRASH_IN], int(number))
