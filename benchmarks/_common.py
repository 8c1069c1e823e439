"""Functions that benchmarks share: the machine, commands on ranks, CSV files."""

import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from fedapm_mpi.utils.atomic_io import write_csv
from fedapm_mpi.utils.system_info import processor_model


def machine() -> str:
    """Describe the machine and the versions that figures are measured with."""
    return (
        f"{processor_model()}, {os.cpu_count()} cores; Python "
        f"{platform.python_version()}, torch {torch.__version__}"
    )


def on_ranks(ranks: int, command: Sequence[str]) -> list[str]:
    """Return a command on `ranks` ranks, by Python's own mpiexec if it has one."""
    installed = Path(sys.executable).with_name("mpiexec")
    launcher = str(installed) if installed.exists() else "mpiexec"
    return [launcher, "-n", str(ranks), *command]


def training(config: Path, run: Path, ranks: int, *changes: str) -> list[str]:
    """Return the command that trains on `ranks` ranks, without progress."""
    command = [sys.executable, "-m", "fedapm_mpi", "train", str(config), *changes]
    command += ["--run-dir", str(run), "--progress", "none"]
    return command if ranks == 1 else on_ranks(ranks, command)


def keep(
    path: Path | None, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Write figures as CSV, with a column for the machine; nothing without a path."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    here = machine()
    write_csv(path, [*header, "machine"], ([*row, here] for row in rows), ".4g")
