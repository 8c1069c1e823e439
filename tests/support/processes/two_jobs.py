"""Train twice in one run directory at once, again and again; no MPI.

Usage: ``python two_jobs.py CONFIG FOLDER NUMBER ROUNDS``. It trains a run alone, and
begins another of ROUNDS rounds, of which copies are made that both go on with. Prints
one JSON object: how both ended each time, and what went wrong.
"""

import contextlib
import io
import json
import os
import shutil
import sys
import time
import traceback
from pathlib import Path

sys.modules["mpi4py"] = None  # type: ignore[assignment]  # forked children cannot share

from fedapm_mpi.cli import train as command  # noqa: E402, F401
from fedapm_mpi.cli.main import main  # noqa: E402
from fedapm_mpi.training import runner as job  # noqa: E402, F401
from tests.support.processes.cli_runs import digest_of, rounds_of  # noqa: E402

MARGIN = 0.3
"""Seconds after which both start, at the same moment."""


def start(words: list[str], at: float, output: Path) -> int:
    """Fork a child that trains from a moment on; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    with output.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    code = 99
    try:
        time.sleep(max(0.0, at - time.time()))
        code = main(words)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)


def both(config: str, run: Path, *more: str) -> list[tuple[int, str]]:
    """Return the exit code and the output of two jobs, that of code 0 first."""
    words = ["train", config, "--run-dir", str(run), "--progress", "none", *more]
    at = time.time() + MARGIN
    outputs = [run.with_name(f"{run.name}.{k}") for k in range(2)]
    pids = [start(words, at, output) for output in outputs]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return sorted(
        (code, out.read_text()) for code, out in zip(codes, outputs, strict=True)
    )


def fault(run: Path, ended: list[tuple[int, str]], digests: set[str]) -> str | None:
    """Return what is wrong after two jobs, if anything."""
    (first, _), (second, refused) = ended
    if (first, second) != (0, 2):
        return f"exit codes {first}, {second}: {ended}"
    lines = [line for line in refused.splitlines() if not line.startswith("note")]
    if len(lines) != 1 or f"{run} is being trained by process " not in lines[0]:
        return f"refused with {refused!r}"
    found = [record["round"] for record in rounds_of(run)]
    if found != list(range(len(found))):
        return f"rounds {found}"
    digests.add(digest_of(run))
    return f"digests {digests}" if len(digests) > 1 else None


def repeat(config: str, folder: Path, number: int, begun: Path | None) -> object:
    digests: set[str] = set()
    faults = {}
    for k in range(number):
        run = folder / f"run{k}"
        if begun is not None:
            shutil.copytree(begun, run)
        ended = both(config, run, *(["--resume"] if begun else []))
        found = fault(run, ended, digests)
        if found is not None:
            faults[k] = found
        shutil.rmtree(run, ignore_errors=True)
    return {"pairs": number, "faults": faults, "digests": sorted(digests)}


def prepare(config: str, folder: Path, rounds: str) -> None:
    """Train a run alone, and begin one; what that loads is there in every child."""
    for name, more in (("whole", []), ("begun", [f"rounds={rounds}"])):
        words = ["train", config, *more, "--run-dir", str(folder / name)]
        with contextlib.redirect_stdout(io.StringIO()):
            assert main([*words, "--progress", "none"]) == 0


def both_kinds(config: str, folder: Path, number: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for kind, begun in (("new", None), ("resume", folder / "begun")):
        (folder / kind).mkdir()
        found[kind] = repeat(config, folder / kind, number, begun)
    return found


if __name__ == "__main__":
    root = Path(sys.argv[2])
    prepare(sys.argv[1], root, sys.argv[4])
    print(json.dumps(both_kinds(sys.argv[1], root, int(sys.argv[3]))))  # noqa: T201
