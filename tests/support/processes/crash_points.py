"""Kill a run at every second file operation, and go on; one process, no MPI.

Usage: ``python crash_points.py CONFIG FOLDER``. Prints one JSON object: how many
operations there are, and what went wrong after which.
"""

import contextlib
import io
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

sys.modules["mpi4py"] = None  # type: ignore[assignment]  # forked children cannot share

from fedapm_mpi.cli.main import main  # noqa: E402
from tests.support.processes.cli_runs import assert_same_run  # noqa: E402
from tests.support.processes.fault_injection import arm  # noqa: E402

STEP = 2
"""Each operation is one of a pair such as write and rename; 1 tries all of them."""


def in_child(body: Callable[[], int], output: Path) -> int:
    """Return the exit code of a forked child; negative for a signal."""
    pid = os.fork()
    if pid == 0:
        with output.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        try:
            code = body()
        except BaseException:
            traceback.print_exc()
            code = 99
        sys.stdout.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def train(config: str, run: Path, number: int = 0) -> int:
    if number:
        arm(str(run), number)
    words = ["train", config, "--run-dir", str(run), "--resume", "--progress", "none"]
    return main(words)


def crash_and_go_on(config: str, folder: Path, number: int) -> str | None:
    """Return what went wrong, ``""`` for nothing, `None` if the run ended first."""
    run, output = folder / f"run-{number}", folder / f"output-{number}"
    code = in_child(lambda: train(config, run, number), output)
    if code == 0:
        return None
    if code != -9:
        return f"exit code {code} instead of a crash: {output.read_text()}"
    code = in_child(lambda: train(config, run), output)
    if code != 0:
        return f"exit code {code} after a crash: {output.read_text()}"
    try:
        assert_same_run(run, folder / "run-0")
        # The next checkpoint would remove what a crash after the last one leaves.
        hidden = [p for p in run.rglob(".*") if p.parent.name != "checkpoints"]
        assert not hidden, hidden
    except (AssertionError, OSError) as error:
        return f"not the same run: {error!r}: {output.read_text()}"
    return ""


def every_crash(config: str, folder: Path) -> dict[str, object]:
    # What the parent loads in its run is there in every child.
    with contextlib.redirect_stdout(io.StringIO()):
        assert train(config, folder / "run-0") == 0
    faults = {}
    number = 1
    while (fault := crash_and_go_on(config, folder, number)) is not None:
        if fault:
            faults[number] = fault
        number += STEP
    return {"operations": number - 1, "faults": faults}


if __name__ == "__main__":
    print(json.dumps(every_crash(sys.argv[1], Path(sys.argv[2]))))  # noqa: T201
