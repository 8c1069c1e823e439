"""A participant's time and a rank's memory with a hundred clients and many more.

    python -m benchmarks.many [--clients 100000] [--participants 1000] [--rounds 5]
                              [--ranks 1] [--samples 50] [--csv FILE]

Clients of `--samples` training samples each, of 64 numbers, with personal parts. With a
hundred clients all take part in each of as many rounds as give the same number of
participants; of the many, so many a round. The participants of a round are evaluated
after it. A round's bytes must be the same.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from fedapm_mpi.manifest import InputSpec
from fedapm_mpi.shards import Column, Table, write_dataset

from .telling import keep, machine, on_ranks

FEW = 100
TESTED, CLASSES, WIDTH = 5, 10, 64
WITHIN, MOST_BYTES = 1.10, 2e9


class Found(NamedTuple):
    """What a run took."""

    prepare_s: float
    start_s: float
    """From the command to the first round's end, that round left out."""

    local_ms: float
    """Local work of a participant, from its second round on."""

    round_ms: float
    """All of a round, evaluation too, for each participant."""

    server_ms: float
    """The server's update in a round."""

    peak_mb: float
    """Peak memory of the rank with the most."""

    bytes_: int
    """On the wire in a round, as broadcast and as sum."""


def prepare(folder: Path, clients: int, samples: int) -> Path:
    """Write the clients' shards."""
    each = samples + TESTED
    patterns = np.random.default_rng(0).standard_normal((997, WIDTH), np.float32)

    def take(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return patterns[rows % 997]

    column = Column(InputSpec("x", (WIDTH,), "float32"), take)
    names = [str(k) for k in range(CLASSES)]
    table = Table("many", [column], np.arange(clients * each) % CLASSES, names)
    rows = np.arange(clients * each).reshape(clients, each)
    splits = {"train": list(rows[:, :samples]), "test": list(rows[:, samples:])}
    write_dataset(folder / "data", table, splits)
    return folder / "data"


def configuration(data: Path, count: int, rounds: int) -> dict[str, Any]:
    """Return a run's configuration."""
    work = {"epochs": 1}
    return {
        "data": str(data),
        "model": {"name": "mlp", "hidden": [64]},
        "split": {"personal": ["head*"]},
        "algorithm": {
            "name": "fedapm", "rho": 0.01, "sigma": 0.01, "lr_personal": 1.0,
            "lr_shared": 1.0, "batch_size": 10, "personal_work": work,
            "shared_work": work,
        },
        "participation": {"name": "random", "count": count},
        "rounds": rounds,
        "evaluation": {"every": 1, "clients": "participants"},
        "diagnostics": {"every": rounds},
        "checkpoint": {"every": rounds},
    }  # fmt: skip


def measured(clients: int, count: int, rounds: int, args: Any) -> Found:
    """Prepare and train; return what it took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begin = time.perf_counter()
        data = prepare(folder, clients, args.samples)
        prepared = time.perf_counter() - begin
        config = folder / "run.yaml"
        config.write_text(yaml.safe_dump(configuration(data, count, rounds)))
        run = folder / "run"
        command = [sys.executable, "-m", "fedapm_mpi", "train", str(config)]
        command += ["--run-dir", str(run), "--progress", "none"]
        if args.ranks > 1:
            command = on_ranks(args.ranks, command)
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not (run / "rounds.jsonl").exists() and process.poll() is None:
            time.sleep(0.01)
        started = time.perf_counter() - begin
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            msg = f"{' '.join(command)} ended with {status}"
            raise SystemExit(msg)
        lines = (run / "rounds.jsonl").read_text().splitlines()[2:]
    records = [json.loads(line) for line in lines]
    seconds = [dict(record["seconds"]) for record in records]
    wall = [sum(v for k, v in s.items() if k != "local_mean") for s in seconds]
    return Found(
        prepared,
        started,
        1e3 * statistics.median(s["local_mean"] for s in seconds) / count,
        1e3 * statistics.median(wall) / count,
        1e3 * statistics.median(s["server"] for s in seconds),
        usage.ru_maxrss / 1e3,
        sum(records[-1]["bytes"].values()),
    )


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many")
    parser.add_argument("--clients", type=int, default=100_000)
    parser.add_argument("--participants", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args(words)
    print(machine())
    rounds = args.rounds * args.participants // FEW
    few = measured(FEW, FEW, rounds, args)
    many = measured(args.clients, args.participants, args.rounds, args)
    for clients, found in ((FEW, few), (args.clients, many)):
        print(
            f"{clients} clients: prepared in {found.prepare_s:.1f} s, first record "
            f"after {found.start_s:.1f} s, {found.local_ms:.2f} ms of local work and "
            f"{found.round_ms:.2f} ms in all a participant, {found.server_ms:.2f} ms"
            f" at the server, {found.bytes_} bytes a round, at most "
            f"{found.peak_mb:.0f} MB a rank"
        )
    print(
        f"a participant: {many.local_ms / few.local_ms:.2f} times the local work (at "
        f"most {WITHIN}), {many.round_ms / few.round_ms:.2f} times in all"
    )
    if many.bytes_ != few.bytes_:
        msg = "a round's bytes depend on the number of clients"
        raise SystemExit(msg)
    header = ["clients", "ranks", *Found._fields]
    lines = [[FEW, args.ranks, *few], [args.clients, args.ranks, *many]]
    keep(args.csv, header, lines)


if __name__ == "__main__":
    main()
