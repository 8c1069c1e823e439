"""Seconds of a round on more ranks, compared with one process on one core.

    python -m benchmarks.scaling [--work W1] [--ranks 3 ...] [--rounds 6] [--repeats 2]
                                 [--data FOLDER] [--csv FILE]

Every number of ranks trains the same rounds, one process on one core first, several
times in turn. The excess of the slowest rank's work over the mean is reported
separately, since it depends on the participants and not on the machine: the ratio that
counts is that of a round in which all ranks work for the mean time. The first round,
which reads the data, is left out. The runs' digests must be equal.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import workloads as w1
from benchmarks._common import keep, machine, training
from fedapm_mpi.analysis.run import Run
from fedapm_mpi.config import yaml_io as yamlfile

MAX_RATIOS = {3: 0.55}
"""Maximum ratio to one process by number of ranks, with a core for each client rank."""


class Taken(NamedTuple):
    """Seconds of a round, summed over its phases."""

    wall: float
    waiting: float
    """Part of it in which the slowest rank works on while others wait, on average."""


def times(run: Path) -> list[Taken]:
    """Return what each round of a run took."""
    found = []
    for record in Run.load(run).records[2:]:
        seconds = dict(record["seconds"])
        mean = seconds.pop("local_mean")
        found.append(Taken(sum(seconds.values()), seconds["local"] - mean))
    return found


def train(config: Path, run: Path, ranks: int) -> None:
    """Train on `ranks` ranks; on one core if it is one."""
    cores = sorted(os.sched_getaffinity(0))
    if ranks == 1:
        os.sched_setaffinity(0, cores[-1:])
    try:
        command = training(config, run, ranks)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    finally:
        os.sched_setaffinity(0, cores)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling")
    parser.add_argument("--work", choices=w1.CLIENTS, default="W1")
    parser.add_argument("--ranks", nargs="+", type=int, default=[3])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--data", type=Path, default=Path("data/benchmarks"))
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args(words)
    data = w1.prepare(args.data, args.work).absolute()
    rounds: dict[int, list[Taken]] = {n: [] for n in (1, *args.ranks)}
    digests = set()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "run.yaml")
        values = w1.configuration(data, "fedapm", args.rounds)
        config.write_text(yamlfile.dump(values))
        for k in range(args.repeats):
            for ranks, taken in rounds.items():
                run = Path(folder, f"{ranks}-{k}")
                train(config, run, ranks)
                taken += times(run)
                digests.add(Run.load(run).digest)
    print(machine())
    if len(digests) > 1:
        msg = "the runs ended with different digests"
        raise SystemExit(msg)
    alone = statistics.mean(taken.wall for taken in rounds[1])
    print(f"one process: {alone:.2f} s a round")
    lines = [[1, alone, 0.0, 1.0, 1.0]]
    for ranks in args.ranks:
        wall = statistics.mean(taken.wall for taken in rounds[ranks])
        waiting = statistics.mean(taken.waiting for taken in rounds[ranks])
        even = (wall - waiting) / alone
        limit = f" (at most {MAX_RATIOS[ranks]})" if ranks in MAX_RATIOS else ""
        print(
            f"{ranks} ranks: {wall:.2f} s a round, {wall / alone:.2f} times; "
            f"{waiting:.2f} s of it from uneven work, without which {even:.2f}{limit}"
        )
        lines.append([ranks, wall, waiting, wall / alone, even])
    keep(args.csv, ["ranks", "round_s", "uneven_s", "ratio", "ratio_even"], lines)


if __name__ == "__main__":
    main()
