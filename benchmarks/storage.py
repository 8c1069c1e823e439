"""What compression and half precision do to a data set's size and speed of reading.

    python -m benchmarks.storage DATA... [--repeat N]

Each DATA is a prepared data set. It is written again in every way, into a scratch
folder, and all clients' training samples are read as a run reads them, from the page
cache: so the seconds are those of HDF5 and its filters, not of the disk.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from fedapm_mpi.data.hdf5 import Compression
from fedapm_mpi.data.manifest import Manifest, read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.stored_types import Store, cast_storage
from fedapm_mpi.data.table import Column, Table
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.utils.terminal import print_table

WAYS: tuple[tuple[str, Compression | None, Store | None], ...] = (
    ("as it is", None, None),
    ("lzf", "lzf", None),
    ("gzip", "gzip", None),
    ("blosc", "blosc", None),
    ("zstd", "zstd", None),
    ("float16", None, "float16"),
    ("float16, zstd", "zstd", "float16"),
    ("bfloat16", None, "bfloat16"),
    ("bfloat16, zstd", "zstd", "bfloat16"),
    ("int8", None, "int8"),
    ("int8, zstd", "zstd", "int8"),
)


def loaded(manifest: Manifest) -> tuple[Table, dict[str, list[np.ndarray]]]:
    """Return a data set as a table in memory, and the rows of each split's clients."""
    reader = ShardReader(manifest)
    clients = range(manifest.num_clients)
    parts = {s: [reader.read(i, s) for i in clients] for s in manifest.counts}
    every = [part for own in parts.values() for part in own]
    columns = [
        Column(
            spec,
            np.concatenate([part.inputs[spec.name] for part in every]).__getitem__,
            np.concatenate([part.lengths[spec.name] for part in every])
            if spec.ragged
            else None,
        )
        for spec in manifest.inputs
    ]
    labels = np.concatenate([part.labels for part in every])
    stops = iter(np.cumsum([len(part.labels) for part in every]).tolist())
    rows = {
        split: [
            np.arange(stop - len(p.labels), stop) for p in own for stop in [next(stops)]
        ]
        for split, own in parts.items()
    }
    return Table(manifest.dataset, columns, labels, manifest.classes), rows


def reading(manifest: Manifest, repeat: int) -> float:
    """Return the median seconds of reading all clients' training samples."""
    seconds = []
    for _ in range(repeat):
        reader = ShardReader(manifest)
        begun = time.perf_counter()
        for client in range(manifest.num_clients):
            reader.read(client, "train")
        seconds.append(time.perf_counter() - begun)
        reader.close()
    return median(seconds)


def main() -> None:
    """Measure every data set that was named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storage")
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--repeat", type=int, default=7)
    args = parser.parse_args()
    for directory in args.data:
        table, rows = loaded(read_manifest(directory))
        lines = []
        for name, compression, store in WAYS:
            with tempfile.TemporaryDirectory() as scratch:
                begun = time.perf_counter()  # int8 reads all values once more
                wanted = cast_storage(table, store).table if store else table
                made = write_dataset(scratch, wanted, rows, compression=compression)
                writing = time.perf_counter() - begun
                size = sum(file.bytes for file in made.files) / 2**20
                lines.append((name, size, writing, reading(made, args.repeat)))
        _, size, writing, seconds = lines[0]
        print_table(
            f"{table.dataset}: {size:.1f} MiB, {seconds:.3f} s to read",
            ("way", "size", "time to write", "time to read"),
            [(n, a / size, b / writing, c / seconds) for n, a, b, c in lines],
        )


if __name__ == "__main__":
    main()
