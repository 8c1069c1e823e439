"""What preparing a large table takes: peak memory, time, and reading next to pyarrow's.

    python -m benchmarks.table_memory DIR [--rows N] [--ranks R] [--csv FILE]

Writes a made-up csv of N rows and 50 columns (numbers, four categories, a client, a
real target) to DIR, in blocks, unless it is there; prepares it on R ranks; and reads it
once as `prepare` does and once by pyarrow's streaming reader alone. Needs pyarrow and
Linux.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from benchmarks._common import keep, machine, on_ranks
from data_prep.table_columns import read_columns

CLIENTS, FRACTIONS, WHOLE = 1000, 40, 4
CATEGORIES = ("red", "green", "blue", "black", "white")
BLOCK_ROWS = 2**16

MEASURED = """
import atexit, pathlib, runpy
@atexit.register
def tell():
    print(pathlib.Path("/proc/self/status").read_text("utf-8"), flush=True)
runpy.run_module("fedapm_mpi", run_name="__main__", alter_sys=True)
"""
"""Runs the command and reports its memory: what its parent could learn of it counts the
parent's own, too."""


def block(rows: int, rng: np.random.Generator) -> pa.RecordBatch:
    """Return made-up rows."""
    columns = {"client": pa.array(rng.integers(CLIENTS, size=rows))}
    for k in range(FRACTIONS):
        columns[f"x{k}"] = pa.array(rng.normal(size=rows).round(4))
    for k in range(WHOLE):
        columns[f"n{k}"] = pa.array(rng.integers(10_000, size=rows))
    for k in range(4):
        codes = pa.array(rng.integers(len(CATEGORIES), size=rows))
        columns[f"c{k}"] = pa.array(CATEGORIES).take(codes)
    columns["y"] = pa.array(rng.normal(size=rows).round(6))
    return pa.record_batch(columns)


def write(path: Path, rows: int) -> None:
    """Write a table of this number of rows, under another name until it is complete."""
    rng = np.random.default_rng(0)
    unfinished = path.with_suffix(".partial")
    schema = block(1, np.random.default_rng(0)).schema
    with pa_csv.CSVWriter(unfinished, schema) as writer:
        for start in range(0, rows, BLOCK_ROWS):
            writer.write(block(min(BLOCK_ROWS, rows - start), rng))
    unfinished.rename(path)


def prepare(path: Path, out: Path, ranks: int) -> tuple[float, int]:
    """Prepare a table; return the seconds, and the peak bytes of the largest rank."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-c", MEASURED, "prepare", "table"]
    command += ["--from", str(path), "--to", str(out), "client=client", "target=y"]
    begun = time.perf_counter()
    command = command if ranks == 1 else on_ranks(ranks, command)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - begun
    peaks = re.findall(r"VmHWM:\s+(\d+) kB", done.stdout)
    return seconds, 1024 * max(map(int, peaks))


def read_by_arrow(path: Path) -> float:
    """Return the seconds in which pyarrow reads a table, batch by batch."""
    begun = time.perf_counter()
    for _ in pa_csv.open_csv(path):
        pass
    return time.perf_counter() - begun


def read(path: Path) -> float:
    """Return the seconds in which `prepare` reads a table into columns."""
    begun = time.perf_counter()
    read_columns(path, None, ["client"])
    return time.perf_counter() - begun


def main(words: Sequence[str] | None = None) -> None:
    """Write, prepare, read, and tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table_memory")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args(words)
    args.directory.mkdir(parents=True, exist_ok=True)
    path = args.directory / f"made-{args.rows}.csv"
    if not path.exists():
        write(path, args.rows)
    seconds, peak = prepare(path, args.directory / "prepared", args.ranks)
    alone, own = read_by_arrow(path), read(path)
    print(machine())
    print(
        f"{args.rows} rows, {path.stat().st_size / 1e6:.0f} MB, {args.ranks} rank(s): "
        f"prepared in {seconds:.1f} s with {peak / 1e6:.0f} MB of memory at most; "
        f"read in {own:.1f} s, {own / alone:.2f} times pyarrow's {alone:.1f} s"
    )
    header = ["rows", "ranks", "seconds", "peak_bytes", "read_seconds"]
    line = [args.rows, args.ranks, seconds, peak, own, alone]
    keep(args.csv, [*header, "pyarrow_seconds"], [line])


if __name__ == "__main__":
    main()
