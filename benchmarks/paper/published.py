"""The published protocol on CIFAR-10: the authors' set-up with all its quirks.

Overlapping clients, the two halves of the model mixed up (`cifar_official`), gradients
times 1/m for every method, means over all clients with what they last had, one step
size for all, every client evaluated with the model that it last trained. Only to see
whether the authors' curves come out; `fair` is the comparison.

    python -m benchmarks.paper.published --data DATA --out RUNS [--methods M...]
                                         [--seeds S...] [--rounds N] [--jobs N]
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.paper.runs import train

LOCAL: dict[str, Any] = {
    "lr": 0.1,
    "batch_size": 50,
    "work": {"epochs": 3},
    "weight_decay": 0.01,
}
"""What all methods have in common; FedAPM, FedAlt have two phases of this length."""

OWN: dict[str, dict[str, Any]] = {
    "FedAPM": {"rho": 0.01, "sigma": 0.01},
    "FedAlt": {},
    "FedSim": {},
    "FedAvg": {},
    "FedProx": {"mu": 0.1},
}
AUTHORS = {
    "FedAPM": {20: 0.508, 50: 0.606, 100: 0.667},
    "FedAlt": {20: 0.466, 50: 0.548, 100: 0.609},
    "FedSim": {20: 0.464, 50: 0.516, 100: 0.557},
    "FedAvg": {20: 0.277, 50: 0.344, 100: 0.386},
    "FedProx": {20: 0.224, 50: 0.305, 100: 0.350},
}
"""Accuracy by round in the authors' run logs, mean over their five seeds."""


def configuration(method: str, seed: int, rounds: int, data: str) -> dict[str, Any]:
    """Return the configuration of one run; the seed is also that of the clients."""
    name = f"benchmarks.paper.cifar_official:{method}"
    return {
        "data": f"{data}/cifar10-published-s{seed}",
        "model": {"name": "cnn"},
        "algorithm": {"name": name} | LOCAL | OWN[method],
        "participation": {"name": "random", "fraction": 0.3},
        "rounds": rounds,
        "seed": seed,
        "evaluation": {"every": 5, "shared_block": "client"},
        "checkpoint": {"every": 20, "keep": 1},
    }


def main(words: Sequence[str] | None = None) -> None:
    """Train the cells that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper.published")
    parser.add_argument("--data", required=True, help="folder of the data sets")
    parser.add_argument("--out", required=True, type=Path, help="folder for the runs")
    parser.add_argument("--methods", nargs="+", choices=OWN, default=list(OWN))
    parser.add_argument("--seeds", nargs="+", type=int, default=[4, 5, 6])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--ranks", type=int, default=0, help="MPI ranks of a run")
    args = parser.parse_args(words)
    data = str(Path(args.data).absolute())

    def work(cell: tuple[int, str]) -> None:
        seed, method = cell
        run = args.out / "published" / "cifar10" / method / f"seed-{seed}"
        train(configuration(method, seed, args.rounds, data), run, args.ranks)
        print(f"{method} seed {seed}: done", flush=True)

    cells = [(seed, method) for seed in args.seeds for method in args.methods]
    with ThreadPoolExecutor(args.jobs) as pool:
        for future in [pool.submit(work, cell) for cell in cells]:
            future.result()


if __name__ == "__main__":
    main()
