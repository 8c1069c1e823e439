"""Work of the slowest rank in a round, beside the least that any dealing could reach.

    python -m benchmarks.balance [--ranks 3 4 5 7 9] [--clients 100] [--rounds 60]
                                 [--trained 3] [--csv FILE]

Clients by Dirichlet, the largest six times as large as the smallest, 30 percent of whom
take part. The least is the larger of the largest participant and all work over the
client ranks. Of many rounds the work is counted in samples passed, as it is dealt; so
many numbers of ranks of `--trained` are also trained on, and the seconds that ranks
worked are compared in the same way. For each it is told what happens where participants
stay with the rank on which they were placed. All digests must be equal.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from fedapm_mpi.dealing import Deal, deal
from fedapm_mpi.participation import participation
from fedapm_mpi.placements import hosts
from fedapm_mpi.placements.cost import cost
from fedapm_mpi.seeding import stream
from fedapm_mpi.shards import Table, column, write_dataset

from .telling import keep, machine, on_ranks

BAR = 1.10
"""Most that the slowest rank may work, in terms of the least, in the mean of rounds."""

SMALLEST, RATIO = 100, 6
FEATURES, CLASSES = 64, 10


def sizes(clients: int) -> NDArray[np.int64]:
    """Return each client's training samples: Dirichlet, then cut to the ratio."""
    rng = np.random.default_rng(3)
    shares = rng.dirichlet(np.full(clients, 1.0))
    shares = np.clip(shares / np.quantile(shares, 0.15), 1, RATIO)
    return np.asarray(SMALLEST * shares, dtype=np.int64)


def least(costs: NDArray[Any], ranks: int) -> float:
    """Return the least that the slowest of so many ranks can have to do."""
    return float(max(costs.max(), costs.sum() / ranks))


def dealt(costs: NDArray[np.int64], size: int, rounds: int, *, anew: bool) -> float:
    """Return the mean ratio to the least over rounds, in samples; on one node."""
    ranks = hosts(size)
    host_of = cost(costs, len(ranks)) + ranks.start
    nodes = [-1] * ranks.start + [1] * len(ranks)
    choice = participation.get("random")(fraction=0.3)
    ratios = []
    for t in range(rounds):
        chosen = choice.choose(len(costs), stream(0, "participants", t))
        here = Deal(chosen, host_of[chosen])
        if anew:
            here = deal(chosen, costs, host_of, nodes)
        most = here.loads(costs, size).max()
        ratios.append(most / least(costs[chosen], len(ranks)))
    return float(statistics.mean(ratios))


def prepare(folder: Path, counts: NDArray[np.int64]) -> Path:
    """Write shards of clients of these sizes."""
    total = int(counts.sum()) + len(counts)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((total, FEATURES), np.float32)
    table = Table(
        "uneven",
        [column("features", x)],
        np.arange(total) % CLASSES,
        [str(k) for k in range(CLASSES)],
    )
    rows = np.split(np.arange(total), np.cumsum(counts + 1)[:-1])
    parts = {"train": [own[1:] for own in rows], "test": [own[:1] for own in rows]}
    write_dataset(folder / "data", table, parts)
    return folder / "data"


def configuration(data: Path, rounds: int) -> dict[str, Any]:
    """Return a run's configuration: steps that take long enough to be timed."""
    work = {"epochs": 2}
    return {
        "data": str(data),
        "model": {"name": "mlp", "hidden": [512, 512]},
        "algorithm": {
            "name": "fedapm", "batch_size": 20, "rho": 0.01, "sigma": 0.01,
            "lr_personal": 0.01, "lr_shared": 0.01, "personal_work": work,
            "shared_work": work,
        },
        "split": {"personal": ["head.*"]},
        "participation": {"name": "random", "fraction": 0.3},
        "rounds": rounds,
        "evaluation": {"every": rounds, "clients": "participants"},
        "checkpoint": {"every": rounds},
    }  # fmt: skip


def trained(config: Path, run: Path, ranks: int, dealing: str) -> tuple[float, str]:
    """Train; return the mean ratio of the slowest rank's seconds, and the digest.

    Its ratio is to the mean of all ranks: the least would need each client's seconds.
    """
    subprocess.run(
        on_ranks(ranks, [
            sys.executable, "-m", "fedapm_mpi", "train", str(config), "--run-dir",
            str(run), "--progress", "none", f"dealing={dealing}",
        ]),
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    lines = (run / "rounds.jsonl").read_text().splitlines()
    seconds = [json.loads(line)["seconds"] for line in lines[2:]]
    ratio = statistics.mean(s["local"] / s["local_mean"] for s in seconds)
    return ratio, (run / "final" / "digest.txt").read_text()


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.balance")
    parser.add_argument("--ranks", nargs="+", type=int, default=[3, 4, 5, 7, 9])
    parser.add_argument("--trained", nargs="*", type=int, default=[3])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args(words)
    counts = sizes(args.clients)
    print(machine())
    print(f"{args.clients} clients with {counts.min()} to {counts.max()} samples")
    lines: list[list[object]] = []
    for size in args.ranks:
        anew, stay = (dealt(counts, size, args.rounds, anew=x) for x in (True, False))
        print(
            f"{size - 1} client ranks: {anew:.3f} times the least (at most {BAR}); "
            f"{stay:.2f} where participants stay"
        )
        lines.append(["samples", size - 1, anew, stay])
    digests = set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "run.yaml"
        values = configuration(prepare(folder, counts), 10)
        config.write_text(yaml.safe_dump(values))
        for size in args.trained:
            found = []
            for dealing in ("node", "rank"):
                run = folder / f"{size}-{dealing}"
                ratio, digest = trained(config, run, size, dealing)
                found.append(ratio)
                digests.add(digest)
            print(
                f"trained on {size - 1} client ranks: slowest rank {found[0]:.3f} times"
                f" the mean of ranks, in seconds; {found[1]:.2f} where they stay"
            )
            lines.append(["seconds", size - 1, *found])
    if len(digests) > 1:
        msg = "the runs ended with different digests"
        raise SystemExit(msg)
    keep(args.csv, ["work", "client_ranks", "dealt", "stay"], lines)


if __name__ == "__main__":
    main()
