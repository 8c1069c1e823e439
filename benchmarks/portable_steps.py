"""Time of a training step with native and with portable kernels.

    python -m benchmarks.portable_steps [--repeats 3] [--csv FILE]

A forward and a backward pass over a batch of 32 and a step of Adam, on one thread, for
an MLP, the network for CIFAR-10, the network for KU-HAR and a narrow ResNet-18. The two
ways take turns, each turn in a process of its own, since kernels are chosen before
torch loads. Medians of CPU seconds are compared.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedapm_mpi.utils import kernels

BATCH = 32
SENSORS = (("acc", (64, 3)), ("gyro", (64, 3)))
IMAGE = (("image", (3, 32, 32)),)
NETWORKS: dict[str, tuple[str, Any, dict[str, Any], int]] = {
    "MLP 384-128-64": ("mlp", SENSORS, {"hidden": [128, 64]}, 400),
    "CNN": ("cnn", IMAGE, {}, 60),
    "HAR": ("har", SENSORS, {}, 60),
    "ResNet-18, width 16": ("resnet18", IMAGE, {"width": 16, "groups": 4}, 12),
}
"""By name: the model, its inputs, its options, and steps in a turn."""


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.portable_steps")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--turn", choices=kernels.KERNELS, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    if args.turn is not None:
        kernels.use(args.turn)
        sys.stdout.write(json.dumps(_turn(args.turn)))
        return
    from benchmarks._common import keep, machine  # loads torch, which a turn must not

    found: dict[str, list[dict[str, float]]] = {way: [] for way in kernels.KERNELS}
    for _ in range(args.repeats):
        for way, turns in found.items():
            command = [sys.executable, "-m", "benchmarks.portable_steps", "--turn", way]
            ended = subprocess.run(command, capture_output=True, text=True, check=True)
            turns.append(json.loads(ended.stdout))
    rows = []
    for name in NETWORKS:
        native, portable = (
            statistics.median(turn[name] for turn in found[way])
            for way in kernels.KERNELS
        )
        rows.append((name, 1000 * native, 1000 * portable, portable / native))
        sys.stdout.write("{}: {:.2f} ms, {:.2f} ms, {:.2f} times\n".format(*rows[-1]))
    sys.stdout.write(f"{machine()}\n")
    keep(args.csv, ("network", "native_ms", "portable_ms", "ratio"), rows)


def _turn(way: str) -> dict[str, float]:
    """Return the median CPU seconds of a step of each network, in this process."""
    import torch

    from fedapm_mpi.data.manifest import InputSpec
    from fedapm_mpi.engine.kernels import open_kernels
    from fedapm_mpi.models import models

    open_kernels(way)
    torch.set_num_threads(1)
    found = {}
    for name, (model, inputs, options, steps) in NETWORKS.items():
        torch.manual_seed(0)
        specs = tuple(InputSpec(key, shape, "float32") for key, shape in inputs)
        network = models.get(model)(specs, 10, **options)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
        batch = [torch.randn(BATCH, *shape) for _, shape in inputs]
        labels = torch.arange(BATCH) % 10
        seconds = []
        for _ in range(steps + 5):
            begin = time.process_time()
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(*batch), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            seconds.append(time.process_time() - begin)
        found[name] = statistics.median(seconds[5:])
    return found


if __name__ == "__main__":
    main()
