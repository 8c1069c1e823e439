"""What an idle server costs the ranks that train, on a machine with two cores.

Compares one server and two client ranks under mpiexec, one client each, with two
independent processes that do the same local work at the same time. Prints the training
speed of the first as a share of the second's; both are taken in turn, several times.

    python -m benchmarks.idle_server [--repeats 3] [--rounds 6] [--samples 4000]
"""

import argparse
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from benchmarks._common import training
from fedapm_mpi.analysis.run import Run
from fedapm_mpi.config import yaml_io as yamlfile
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset

CONFIG = {
    "model": {"name": "cnn"},
    "split": {"personal": ["conv*"]},
    "algorithm": {
        "name": "fedapm",
        "units": "weighted",
        "rho": 0.01,
        "sigma": 0.01,
        "lr_personal": 0.01,
        "lr_shared": 0.01,
        "batch_size": 50,
        "personal_work": {"epochs": 1},
        "shared_work": {"epochs": 1},
    },
    "evaluation": {"every": 10_000},
    "checkpoint": {"every": 10_000},
}


def make_data(directory: Path, clients: int, samples: int) -> None:
    """Write a set of equal clients with images of noise."""
    rng = np.random.default_rng(0)
    n = clients * (samples + 10)
    x = rng.normal(size=(n, 3, 32, 32)).astype(np.float32)
    y = rng.integers(0, 10, n)
    blocks = np.split(np.arange(n), clients)
    write_dataset(
        directory,
        Table("noise", [column("image", x)], y, [str(k) for k in range(10)]),
        {
            "train": [block[:samples] for block in blocks],
            "test": [block[samples:] for block in blocks],
        },
    )


def seconds_per_round(run: Path) -> np.ndarray:
    """Return the median seconds of a round after the first, and of its local work.

    The second is the mean over the ranks that train, so it leaves out what they wait
    for each other.
    """
    rounds = [record["seconds"] for record in Run.load(run).records[2:-1]]
    keys = ("broadcast", "local", "reduce", "server")
    whole = statistics.median(sum(r[key] for key in keys) for r in rounds)
    return np.array([whole, statistics.median(r["local_mean"] for r in rounds)])


def measure(folder: Path, runs: list[tuple[Path, int]], name: str) -> np.ndarray:
    """Start runs side by side; return the mean over them of `seconds_per_round`."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    directories = [folder / f"{name}-{k}" for k in range(len(runs))]
    started = [
        subprocess.Popen(
            training(config, directory, ranks), env=env, stdout=subprocess.DEVNULL
        )
        for (config, ranks), directory in zip(runs, directories, strict=True)
    ]
    if any(process.wait() for process in started):
        raise SystemExit(1)
    mean: np.ndarray = np.mean([seconds_per_round(d) for d in directories], axis=0)
    return mean


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--samples", type=int, default=4000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        configs = {}
        for clients in (1, 2):
            make_data(folder / f"data{clients}", clients, args.samples)
            values = CONFIG | {"data": str(folder / f"data{clients}")}
            configs[clients] = folder / f"{clients}.yaml"
            text = yamlfile.dump(values | {"rounds": args.rounds})
            configs[clients].write_text(text, "utf-8")
        ratios = []
        for k in range(args.repeats):
            apart = measure(folder, [(configs[1], 1)] * 2, f"apart{k}")
            together = measure(folder, [(configs[2], 3)], f"together{k}")
            ratios.append(apart / together)
            print(
                f"two processes {apart[0]:.3f} s a round, 1 + 2 ranks "
                f"{together[0]:.3f} s: speed {ratios[-1][0]:.3f}, of local work alone "
                f"{ratios[-1][1]:.3f}"
            )
        whole, local = np.median(ratios, axis=0)
        print(f"median speed: {whole:.3f}, of local work alone {local:.3f}")


if __name__ == "__main__":
    main()
