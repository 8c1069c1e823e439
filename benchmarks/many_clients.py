"""A participant's time and a rank's memory with a hundred clients and many more.

    python -m benchmarks.many_clients [--clients 100000] [--participants 1000]
        [--rounds 12] [--ranks 1] [--samples 50] [--csv FILE]

Clients have `--samples` training samples of 64 numbers each, and personal parameters.
Of a hundred clients all take part in each round, for the same number of participants in
all; of the many, `--participants` per round. The participants of a round are evaluated
after it. A round's bytes must be the same.

Both run on `--ranks` ranks. As the speed of a machine may vary, the local work of a
participant is timed in one process that alternates between a hundred of the few and a
hundred of the many; medians of single participants.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import scaling
from benchmarks._common import keep, machine, training
from fedapm_mpi.analysis.run import Run
from fedapm_mpi.comm import Serial
from fedapm_mpi.config import yaml_io as yamlfile
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.table import Column, Table
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.training.client import train_clients
from fedapm_mpi.training.context import open_context

FEW = 100
TESTED, CLASSES, WIDTH = 5, 10, 64
WITHIN, MOST_BYTES = 1.10, 2e9


class Found(NamedTuple):
    """What a run took, in a process of its own."""

    prepare_s: float
    start_s: float
    """From the command to the first round's end, that round left out."""

    round_ms: float
    """All of a round, evaluation too, over its participants."""

    server_ms: float
    """The server's update in a round."""

    peak_mb: float
    """Peak memory of the rank with the most."""

    bytes_: int
    """On the wire in a round, as broadcast and as sum."""


def prepare(data: Path, clients: int, samples: int) -> float:
    """Write the clients' shards; return the seconds that it took."""
    begin = time.perf_counter()
    each = samples + TESTED
    patterns = np.random.default_rng(0).standard_normal((997, WIDTH), np.float32)

    def take(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return patterns[rows % 997]

    column = Column(InputSpec("x", (WIDTH,), "float32"), take)
    names = [str(k) for k in range(CLASSES)]
    table = Table("many", [column], np.arange(clients * each) % CLASSES, names)
    rows = np.arange(clients * each).reshape(clients, each)
    splits = {"train": list(rows[:, :samples]), "test": list(rows[:, samples:])}
    write_dataset(data, table, splits)
    return time.perf_counter() - begin


def configuration(data: Path, count: int, rounds: int) -> dict[str, Any]:
    """Return a run's configuration."""
    work = {"epochs": 1}
    return {
        "data": str(data),
        "model": {"name": "mlp", "hidden": [64]},
        "split": {"personal": ["head*"]},
        "algorithm": {
            "name": "fedapm", "units": "weighted", "rho": 0.01, "sigma": 0.01,
            "lr_personal": 1.0, "lr_shared": 1.0, "batch_size": 10,
            "personal_work": work, "shared_work": work,
        },
        "participation": {"name": "random", "count": count},
        "rounds": rounds,
        "evaluation": {"every": 1, "clients": "participants"},
        "diagnostics": {"every": rounds},
        "checkpoint": {"every": rounds},
    }  # fmt: skip


def measured(folder: Path, clients: int, values: dict[str, Any], args: Any) -> Found:
    """Prepare and train; return what it took."""
    # Elsewhere, since a process's peak counts that of the one that starts it.
    with ProcessPoolExecutor(1, get_context("spawn")) as elsewhere:
        data = Path(values["data"])
        prepared = elsewhere.submit(prepare, data, clients, args.samples).result()
    config, run = folder / f"{clients}.yaml", folder / f"run-{clients}"
    config.write_text(yamlfile.dump(values))
    command = training(config, run, args.ranks)
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not (run / "rounds.jsonl").exists() and process.poll() is None:
        time.sleep(0.01)
    started = time.perf_counter() - begin
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        msg = f"{' '.join(command)} ended with {status}"
        raise SystemExit(msg)
    records = Run.load(run).records
    each = 1e3 / values["participation"]["count"]
    return Found(
        prepared,
        started,
        each * statistics.median(taken.wall for taken in scaling.times(run)),
        1e3 * statistics.median(r["seconds"]["server"] for r in records[2:]),
        usage.ru_maxrss / 1e3,
        sum(records[-1]["bytes"].values()),
    )


def side_by_side(kinds: Sequence[dict[str, Any]], rounds: int) -> list[list[float]]:
    """Return the milliseconds of each participant, of two configurations in turn.

    A hundred of the one, then a hundred of the other, and so on for that many rounds of
    the second.
    """
    sessions = [open_context(validate(own, "many"), Serial()) for own in kinds]
    seconds: list[list[float]] = [[], []]
    for t in range(rounds):
        for start in range(0, len(sessions[1].federation.participants(t)), FEW):
            for session, taken in zip(sessions, seconds, strict=True):
                first = start if session is sessions[1] else 0
                chosen = session.federation.participants(t)[first : first + FEW]
                model = session.groups.members[0].initial["shared"]
                work = train_clients(session, t, chosen, chosen.tolist(), model)
                taken += [1e3 * figures[-1] for figures in work.statistics]
    return [taken[FEW:] for taken in seconds]


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_clients")
    parser.add_argument("--clients", type=int, default=100_000)
    parser.add_argument("--participants", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    print(machine())
    blocks = args.participants // FEW
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values = [
            configuration(folder / "few", FEW, args.rounds * blocks),
            configuration(folder / "many", args.participants, args.rounds),
        ]
        found = [
            measured(folder, clients, own, args)
            for clients, own in zip((FEW, args.clients), values, strict=True)
        ]
        times = side_by_side(values, args.rounds)
    lines = []
    for clients, own, taken in zip((FEW, args.clients), found, times, strict=True):
        local = statistics.median(taken)
        print(
            f"{clients} clients: prepared in {own.prepare_s:.1f} s, first record after "
            f"{own.start_s:.1f} s; a participant {local:.2f} ms of local work, in that "
            f"run {own.round_ms:.2f} ms of a round; {own.server_ms:.2f} ms at the "
            f"server, {own.bytes_} bytes a round, at most {own.peak_mb:.0f} MB a rank"
        )
        lines.append([clients, args.ranks, *own, local])
    ratio = statistics.median(times[1]) / statistics.median(times[0])
    print(f"a participant: {ratio:.3f} times the local work (at most {WITHIN})")
    if len({own.bytes_ for own in found}) > 1:
        msg = "a round's bytes depend on the number of clients"
        raise SystemExit(msg)
    header = ["clients", "ranks", *Found._fields, "local_ms"]
    keep(args.csv, header, lines)


if __name__ == "__main__":
    main()
