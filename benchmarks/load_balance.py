"""Work of the slowest rank in a round, compared with the minimum of any assignment.

    python -m benchmarks.load_balance [--ranks 3 4 5 7 9] [--clients 100] [--rounds 20]
                                 [--csv FILE]

Clients by Dirichlet, the largest six times as large as the smallest; 30 percent take
part. The minimum is the larger of the largest participant and all work over the client
ranks. A participant's work is to sleep for a time in proportion to its samples,
so that more ranks than cores can be timed and each one's work is known: what is
measured is how participants come to ranks, in real runs on real ranks. Each number of
ranks is also run with static scheduling, where participants stay on their home rank.
All digests must be equal.
"""

import argparse
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks._common import keep, machine, training
from fedapm_mpi.algorithms import LocalBudget
from fedapm_mpi.algorithms.base import ClientState, Objective, RoundInfo
from fedapm_mpi.analysis.run import Run
from fedapm_mpi.config import yaml_io as yamlfile
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.participation import participation
from fedapm_mpi.utils.rng import generator

MAX_RATIO = 1.10
"""Of the slowest rank's work to the minimum, mean over rounds."""

SMALLEST, RATIO = 100, 6
FEATURES, CLASSES, FRACTION = 4, 10, 0.3
SECONDS = 3e-4
"""Work of a sample."""


@dataclass(frozen=True, kw_only=True)
class Sleep:
    """An algorithm that only waits, in proportion to the samples."""

    sharing: ClassVar[str] = "all"
    rows: ClassVar[int] = 1

    def new_client(self, shared: Tensor, personal: Tensor) -> ClientState:
        """Return a client's initial state."""
        return {"shared": shared.clone(), "personal": personal.clone()}

    def client_step(
        self,
        broadcast: Tensor,
        client: ClientState,
        problem: Objective,
        weight: float,
    ) -> Tensor:
        """Sleep in proportion to the samples, then add 1 to the model."""
        once = LocalBudget(epochs=1)
        count = sum(len(batch) for batch in problem.batches("joint", once, 0))
        time.sleep(count * SECONDS)
        client["shared"].add_(1)
        return torch.ones_like(broadcast, dtype=torch.float64)

    def server_step(self, server: Tensor, total: Tensor, round_: RoundInfo) -> None:
        """Add the sum of updates."""
        server.add_(total)


def sizes(clients: int) -> NDArray[np.int64]:
    """Return each client's training samples: Dirichlet, then cut to the ratio."""
    rng = np.random.default_rng(3)
    shares = rng.dirichlet(np.full(clients, 1.0))
    shares = np.clip(shares / np.quantile(shares, 0.15), 1, RATIO)
    return np.asarray(SMALLEST * shares, dtype=np.int64)


def least(counts: NDArray[np.int64], ranks: int, rounds: int) -> list[float]:
    """Return the minimum seconds of the slowest of `ranks` ranks, round by round."""
    choice = participation.get("random")(fraction=FRACTION)
    found = []
    for t in range(rounds):
        chosen = choice.choose(len(counts), generator(0, "participants", t))
        work = counts[chosen] * SECONDS
        found.append(float(max(work.max(), work.sum() / ranks)))
    return found


def prepare(folder: Path, counts: NDArray[np.int64]) -> Path:
    """Write shards of clients of these sizes."""
    total = int(counts.sum()) + len(counts)
    table = Table(
        "uneven",
        [column("features", np.zeros((total, FEATURES), np.float32))],
        np.arange(total) % CLASSES,
        [str(k) for k in range(CLASSES)],
    )
    rows = np.split(np.arange(total), np.cumsum(counts + 1)[:-1])
    parts = {
        "train": [of_client[1:] for of_client in rows],
        "test": [of_client[:1] for of_client in rows],
    }
    write_dataset(folder / "data", table, parts)
    return folder / "data"


def trained(config: Path, run: Path, ranks: int, scheduling: str) -> tuple[Any, str]:
    """Train; return the seconds of the slowest rank in each round, and the digest."""
    command = training(config, run, ranks, f"scheduling={scheduling}")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    done = Run.load(run)
    seconds = [record["seconds"]["local"] for record in done.records[1:]]
    return seconds, done.digest


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load_balance")
    parser.add_argument("--ranks", nargs="+", type=int, default=[3, 4, 5, 7, 9])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args(words)
    counts = sizes(args.clients)
    print(machine())
    print(f"{args.clients} clients with {counts.min()} to {counts.max()} samples")
    lines: list[list[object]] = []
    digests = set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "run.yaml"
        values = {
            "data": str(prepare(folder, counts)),
            "model": "logistic",
            "algorithm": "benchmarks.load_balance:Sleep",
            "participation": {"name": "random", "fraction": FRACTION},
            "rounds": args.rounds,
            "evaluation": {"every": args.rounds, "clients": "participants"},
            "checkpoint": {"every": args.rounds},
        }
        config.write_text(yamlfile.dump(values))
        for size in args.ranks:
            floor = least(counts, size - 1, args.rounds)
            found = []
            for scheduling in ("dynamic", "static"):
                run = folder / f"{size}-{scheduling}"
                seconds, digest = trained(config, run, size, scheduling)
                pairs = zip(seconds, floor, strict=True)
                found.append(statistics.mean(s / best for s, best in pairs))
                digests.add(digest)
            print(
                f"{size - 1} client ranks: {found[0]:.3f} times the least (at most "
                f"{MAX_RATIO}); {found[1]:.2f} where participants stay"
            )
            lines.append([size - 1, *found])
    if len(digests) > 1:
        msg = "the runs ended with different digests"
        raise SystemExit(msg)
    keep(args.csv, ["client_ranks", "drawn", "stay"], lines)


if __name__ == "__main__":
    main()
