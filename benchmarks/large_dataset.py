"""What writing and reading a large data set takes: memory, time, bytes read.

    python -m benchmarks.large_dataset DIR [--clients M] [--gigabytes G]

Writes M clients of ten samples each, which are made as they are written and take G
gigabytes in all, to DIR, and reads the training samples of a thousand neighbours.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.table import Column, Table
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.utils.system_info import peak_memory

EACH, TRAIN, CLASSES, NEIGHBOURS = 10, 8, 10, 1000


def bytes_read() -> int:
    """Return the bytes that this process has read until now (Linux)."""
    for line in Path("/proc/self/io").read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == "rchar":
            return int(value)
    return 0


def main() -> None:
    """Write, read, and tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_dataset")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--clients", type=int, default=100_000)
    parser.add_argument("--gigabytes", type=float, default=10.0)
    args = parser.parse_args()
    m = args.clients
    width = max(1, round(args.gigabytes * 1e9 / (m * EACH * 4)))

    def take(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return (rows[:, None] % 977 + np.arange(width)).astype(np.float32)

    spec = InputSpec("x", (width,), "float32")
    classes = [str(c) for c in range(CLASSES)]
    table = Table("large", [Column(spec, take)], np.arange(m * EACH) % CLASSES, classes)
    rows = np.arange(m * EACH).reshape(m, EACH)
    splits = {"train": list(rows[:, :TRAIN]), "test": list(rows[:, TRAIN:])}
    begun = time.perf_counter()
    manifest = write_dataset(args.directory, table, splits)
    seconds = time.perf_counter() - begun
    size = sum(file.bytes for file in manifest.files)
    peak = peak_memory()
    print(
        f"{m} clients, {size / 1e9:.1f} GB in {len(manifest.files)} files: "
        f"{seconds:.0f} s, {peak / 1e6:.0f} MB of memory at most"
    )
    reader, number = ShardReader(manifest), min(NEIGHBOURS, m)
    first, before, begun = (m - number) // 2, bytes_read(), time.perf_counter()
    for client in range(first, first + number):
        reader.read(client, "train")
    had = number * TRAIN * (4 * width + 4)
    print(
        f"{number} neighbours read: {time.perf_counter() - begun:.2f} s, "
        f"{(bytes_read() - before) / had:.2f} times the bytes that they have"
    )


if __name__ == "__main__":
    main()
