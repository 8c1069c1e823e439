"""Run ``fedapm doctor`` on ranks of which the last has a fault, named first.

``skew FOLDER`` has it import the package from another folder; ``stop STEP`` has it stop
when it comes to a step, as a process does on a host that hangs.
"""

import os
import signal
import sys
from collections.abc import Callable

from tests.support.processes.mpiexec import RANK_VARIABLES

LAST = "2"


def stop_at(wanted: str) -> None:
    from fedapm_mpi.doctor.watchdog import Watchdog

    step: Callable[..., None] = Watchdog.step

    def stopping(self: Watchdog, name: str, seconds: float | None = None) -> None:
        step(self, name, seconds)
        if name == wanted:
            os.kill(os.getpid(), signal.SIGSTOP)

    Watchdog.step = stopping  # type: ignore[method-assign]


def main() -> int:
    fault, value, *words = sys.argv[1:]
    if any(os.environ.get(name) == LAST for name in RANK_VARIABLES):
        if fault == "skew":
            sys.path.insert(0, value)
        else:
            stop_at(value)
    from fedapm_mpi.cli.main import main

    return main(["doctor", *words])


if __name__ == "__main__":
    sys.exit(main())
