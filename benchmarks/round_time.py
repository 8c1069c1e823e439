"""CPU time of a round, next to loops written by hand; one core and one thread.

    python -m benchmarks.round_time [--work W1] [--algorithms fedapm fedavg]
        [--rounds 7] [--data FOLDER] [--csv FILE]

After each of the package's rounds, everything included, each loop does the same round,
all in one process: so whatever else the machine does hits all of them alike. The first
round, which reads the data, is left out. Prints medians and their ratios.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import workloads as w1
from benchmarks._common import keep, machine
from benchmarks.reference_loops import Loop, Style
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.tracking.base import LoggerList, MetricsLogger
from fedapm_mpi.tracking.loggers.jsonl import JsonlLogger
from fedapm_mpi.tracking.run_directory import Record, RunDirectory
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.loop import train
from fedapm_mpi.training.preemption import PreemptionGuard

BARS = {
    ("fedapm", "plain"): 0.45,
    ("fedapm", "careful"): 1.10,
    ("fedavg", "plain"): 0.62,
}
"""Ratios that the package must stay below."""


class Race(MetricsLogger):
    """Takes the time of the package's rounds, and has every loop do the same ones."""

    def __init__(self, loops: dict[str, Loop]) -> None:
        self.loops = loops
        self.seconds: dict[str, list[float]] = {"fedapm_mpi": []}
        self.seconds |= {name: [] for name in loops}
        self._began = time.process_time()

    def log(self, record: Record, step: int) -> None:
        """Note the package's time for a round, then do it with every loop."""
        taken = time.process_time() - self._began
        t = step - 1
        if t >= 0:
            self.seconds["fedapm_mpi"].append(taken)
            for name, loop in self.loops.items():
                begin = time.process_time()
                loop.round(t)
                self.seconds[name].append(time.process_time() - begin)
        self._began = time.process_time()


def race(algorithm: str, work: str, data: Path, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round by what did it."""
    x, labels = w1.images()
    own = w1.parts(labels, w1.CLIENTS[work])
    styles: tuple[Style, ...] = ("plain", "careful")
    loops: dict[str, Loop] = {
        style: Loop(algorithm, style, work, x, labels, own) for style in styles
    }
    del x
    taken = Race(loops)
    config = validate(w1.configuration(w1.prepare(data, work), algorithm, rounds), work)
    session = open_context(config, Serial())
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(Path(folder))
        train(
            session,
            directory,
            identity={},
            logger=LoggerList([(None, JsonlLogger(directory)), (None, taken)]),
            stop=PreemptionGuard(),
        )
    return taken.seconds


def main(words: Sequence[str] | None = None) -> None:
    """Race and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.round_time")
    parser.add_argument("--work", choices=w1.CLIENTS, default="W1")
    parser.add_argument("--algorithms", nargs="+", default=["fedapm", "fedavg"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data", type=Path, default=Path("data/benchmarks"))
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    print(machine())
    lines: list[list[object]] = []
    for algorithm in args.algorithms:
        seconds = race(algorithm, args.work, args.data, args.rounds)
        medians = {k: statistics.median(v[1:]) for k, v in seconds.items()}
        own = medians["fedapm_mpi"]
        for name, median in medians.items():
            bar = BARS.get((algorithm, name)) if args.work == "W1" else None
            ratio = (
                ""
                if name == "fedapm_mpi"
                else f"; the package takes {own / median:.3f}"
            )
            limit = f" (at most {bar})" if bar else ""
            print(f"{algorithm:7} {name:11} {median:7.2f} CPU s{ratio}{limit}")
            lines.append([args.work, algorithm, name, median, own / median])
    header = ["work", "algorithm", "by", "cpu_seconds", "ratio"]
    keep(args.csv, header, lines)


if __name__ == "__main__":
    main()
