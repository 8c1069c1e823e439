"""Seconds from mpiexec to the first round, compared with importing torch and mpi4py.

    python -m benchmarks.startup_time [--ranks 3] [--repeats 7] [--csv FILE]

Both are started in turn, several times. The clock stops when rank 0 prints its first
line: in a run, after clients were evaluated with the initial model, right before the
first round; else once every rank has imported both and met the others.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._common import keep, machine, on_ranks
from benchmarks.idle_server import CONFIG, make_data
from fedapm_mpi.config import yaml_io as yamlfile

BAR = 1.5
BARE = (
    "import torch; from mpi4py import MPI; MPI.COMM_WORLD.Barrier(); "
    "MPI.COMM_WORLD.rank or print('round', flush=True)"
)
CLIENTS, SAMPLES = 20, 20


def configuration(folder: Path) -> dict[str, Any]:
    """Write shards of small clients; return the configuration of one round."""
    make_data(folder / "data", CLIENTS, SAMPLES)
    return {**CONFIG, "data": str(folder / "data"), "rounds": 1}


def seconds(command: Sequence[str]) -> float:
    """Return how long a command takes to print a line that begins with "round"."""
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("round"):
                taken = time.perf_counter() - begin
                process.stdout.read()
                break
        else:
            taken = float("nan")
    if process.returncode or taken != taken:
        msg = f"{' '.join(command)} ended with {process.returncode}"
        raise SystemExit(msg)
    return taken


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup_time")
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args(words)
    python = on_ranks(args.ranks, [sys.executable, "-u"])
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "run.yaml")
        config.write_text(yamlfile.dump(configuration(Path(folder))))
        for k in range(args.repeats):
            run = [
                "-m", "fedapm_mpi", "train", str(config), "--progress", "lines",
                "--run-dir", str(Path(folder, str(k))),
            ]  # fmt: skip
            pairs.append((seconds([*python, "-c", BARE]), seconds([*python, *run])))
    bare, own = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(machine())
    print(
        f"{args.ranks} ranks: {bare:.2f} s to import torch and mpi4py, {own:.2f} s to "
        f"the first round, {own / bare:.2f} times (at most {BAR})"
    )
    header = ["ranks", "bare_s", "first_round_s", "ratio"]
    keep(args.csv, header, [[args.ranks, bare, own, own / bare]])


if __name__ == "__main__":
    main()
