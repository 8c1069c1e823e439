"""Seconds of a round on two cores, compared with APPFL and Flower.

    pip install appfl==1.12.0 'flwr[simulation]==1.42.0'
    python -m benchmarks.peers [--rounds 6] [--repeats 2] [--data FOLDER] [--csv FILE]

The six clients of W1's first round train in every round, since the synchronous server
of APPFL waits for all that it has. The package and APPFL have one server and two client
ranks, Flower two workers, each with one thread; local training of the peers is the
plain PyTorch that their users write. All are run in turn, several times; the first
round of each run, which reads the data, is left out.

APPFL's `optimize_memory` is on unless one turns it off; both are timed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import scaling
from benchmarks import workloads as w1
from benchmarks._common import keep, machine, on_ranks
from fedapm_mpi.config import yaml_io as yamlfile
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset

RANKS = 3
IIADMM = {
    "units": "weighted",
    "rho": w1.PENALTY,
    "zeta": 1.0,
    "work": {"epochs": w1.EPOCHS},
    "init": "local",
}
Timing = Callable[[], list[float]]
"""Runs something; returns the seconds of its rounds but the first."""


def prepare(data: Path) -> tuple[Path, Path]:
    """Write the six clients for the package and for the others, once."""
    shards, arrays = data / "six", data / "six-arrays"
    if (arrays / "assignment.json").exists():
        return shards, arrays
    x, labels = w1.images()
    own = [w1.parts(labels, w1.CLIENTS["W1"])[k] for k in w1.participants("W1", 0)]
    write_dataset(
        shards,
        Table("six", [column("image", x)], labels, [str(k) for k in range(10)]),
        {"train": [p.train for p in own], "test": [p.test for p in own]},
        force=True,
    )
    arrays.mkdir(exist_ok=True)
    for k, rows in enumerate(own):
        np.savez(
            arrays / f"{k}.npz",
            train_x=x[rows.train],
            train_y=labels[rows.train],
            test_x=x[rows.test],
            test_y=labels[rows.test],
        )
    (arrays / "assignment.json").write_text(
        json.dumps(assign([len(p.train) for p in own]))
    )
    return shards, arrays


def assign(sizes: list[int], ranks: int = RANKS - 1) -> list[list[int]]:
    """Assign clients to ranks: the largest first, to the rank with least work."""
    assignment: list[list[int]] = [[] for _ in range(ranks)]
    for k in sorted(range(len(sizes)), key=lambda k: -sizes[k]):
        min(assignment, key=lambda some: sum(sizes[j] for j in some)).append(k)
    return assignment


def package(
    shards: Path, algorithm: str, options: dict[str, Any], rounds: int
) -> Timing:
    """Return what times the package."""

    def timing() -> list[float]:
        base = "fedapm" if algorithm == "fedapm" else "fedavg"
        values = w1.configuration(shards.absolute(), base, rounds)
        values["participation"] = "full"
        if options:
            values["algorithm"] = {
                "name": algorithm, "batch_size": w1.BATCH, **options
            }  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder, "run.yaml")
            config.write_text(yamlfile.dump(values))
            scaling.train(config, Path(folder, "run"), RANKS)
            return [taken.wall for taken in scaling.times(Path(folder, "run"))]

    return timing


def other(command: Sequence[str]) -> Timing:
    """Return what times a peer, by the line in which it prints when rounds ended."""
    quiet = {
        "OMP_NUM_THREADS": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "WANDB_MODE": "disabled",
    }

    def timing() -> list[float]:
        ended = subprocess.run(
            command,
            env=os.environ | quiet,
            capture_output=True,
            text=True,
            check=False,
        )
        found = [x for x in ended.stdout.splitlines() if x.startswith("ends ")]
        if ended.returncode or not found:
            msg = f"{' '.join(command)} ended with {ended.returncode}\n{ended.stderr}"
            raise SystemExit(msg)
        ends = json.loads(found[-1].removeprefix("ends "))
        return [b - a for a, b in pairwise(ends)]

    return timing


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--data", type=Path, default=Path("data/benchmarks"))
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args(words)
    shards, arrays = prepare(args.data)
    python = [sys.executable, "-m"]
    appfl = f"APPFL {version('appfl')}"
    folder, rounds = str(arrays.absolute()), str(args.rounds)

    def by_appfl(algorithm: str, memory: str) -> Timing:
        module = [*python, "benchmarks.peers.with_appfl"]
        return other(on_ranks(RANKS, [*module, algorithm, folder, rounds, memory]))

    by_flower = [*python, "benchmarks.peers.with_flower", folder, rounds]
    timings: dict[tuple[str, str], Timing] = {
        ("fedavg", "fedapm_mpi"): package(shards, "fedavg", {}, args.rounds),
        ("fedavg", f"Flower {version('flwr')}"): other(by_flower),
        ("fedavg", appfl): by_appfl("fedavg", "on"),
        ("fedavg", f"{appfl}, optimize_memory off"): by_appfl("fedavg", "off"),
        ("iiadmm", "fedapm_mpi"): package(shards, "iiadmm", IIADMM, args.rounds),
        ("iiadmm", appfl): by_appfl("iiadmm", "on"),
        ("iiadmm", f"{appfl}, optimize_memory off"): by_appfl("iiadmm", "off"),
        ("fedapm", "fedapm_mpi"): package(shards, "fedapm", {}, args.rounds),
    }
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in timings}
    for _ in range(args.repeats):
        for key, timing in timings.items():
            seconds[key] += timing()
    print(machine())
    lines: list[list[object]] = []
    for (algorithm, by), taken in seconds.items():
        median = statistics.median(taken)
        own = statistics.median(seconds[algorithm, "fedapm_mpi"])
        print(
            f"{algorithm:7} {by:32} {median:7.2f} s a round, {median / own:.2f} times"
        )
        lines.append([algorithm, by, median, median / own])
    keep(args.csv, ["algorithm", "by", "round_s", "times_the_package"], lines)


if __name__ == "__main__":
    main()
