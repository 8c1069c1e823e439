"""Time of a training pass of the network for CIFAR-10 in several ways.

    python -m benchmarks.train_step [--repeats 5] [--csv FILE]

Forward and backward over batches of 50 images, with gradients in all layers, on one
thread: in single precision, under autocast to bfloat16 (`precision: bf16`), and by
`torch.compile`, which is no option of the package. The ways take turns; the medians of
their CPU seconds are compared. Needs a C++ compiler for the last.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import workloads as w1
from benchmarks._common import keep, machine
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.engine.device import CPU, autocast
from fedapm_mpi.engine.feature_cache import forward_rest, stages_of
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.models import models

PASSES = 40
"""Passes of each way in a turn."""


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_step")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    spec = InputSpec("image", (3, 32, 32), "float32")
    torch.manual_seed(0)
    model = PartitionedModel(models.get("cnn")((spec,), w1.CLASSES), set())
    # As samples are kept: behind the stage that orders colours.
    images = torch.randn(w1.BATCH, 32, 32, 3)
    labels = torch.arange(w1.BATCH) % w1.CLASSES
    rest = stages_of(model.module)[1:]

    def forward(x: Tensor) -> Tensor:
        return forward_rest(rest, x)

    def one_pass(scores: Callable[[Tensor], Tensor], *, bf16: bool = False) -> None:
        model.gradient.zero_()
        with autocast(CPU, enabled=bf16):
            found = scores(images)
        loss = nn.functional.cross_entropy(found.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]

    compiled = torch.compile(forward)
    ways: dict[str, Callable[[], None]] = {
        "single precision": lambda: one_pass(forward),
        "bf16": lambda: one_pass(forward, bf16=True),
        "torch.compile": lambda: one_pass(compiled),
    }
    begin = time.perf_counter()
    for way in ways.values():
        way()
    print(machine())
    print(f"first passes, compiling among them: {time.perf_counter() - begin:.1f} s")
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.repeats):
        for name, way in ways.items():
            begin = time.process_time()
            for _ in range(PASSES):
                way()
            taken[name].append((time.process_time() - begin) / PASSES)
    whole = statistics.median(taken["single precision"])
    lines = []
    for name, seconds in taken.items():
        median = statistics.median(seconds)
        print(f"{name}: {1e3 * median:.2f} ms a pass, {median / whole:.2f} times")
        lines.append([name, 1e3 * median, median / whole])
    keep(args.csv, ["way", "pass_ms", "ratio"], lines)


if __name__ == "__main__":
    main()
