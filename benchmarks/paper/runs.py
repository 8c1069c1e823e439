"""Train one configuration in a process of its own, once, and read what came of it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedapm_mpi.analysis.run import Run
from fedapm_mpi.config import yaml_io as yamlfile

DIVERGED = 70
"""Exit code of a run that failed, as one does whose loss is no longer finite."""


def train(config: Mapping[str, Any], run: Path, ranks: int = 0) -> bool:
    """Train unless the run is finished; return whether it came to an end.

    A run that was interrupted continues from its last checkpoint. The number of ranks
    changes no bit of the result.

    Parameters
    ----------
    config
        The configuration.
    run
        The run directory.
    ranks
        MPI ranks; 0 is a single process without MPI.

    Raises
    ------
    SystemExit
        If it fails by anything but a loss that is not finite.
    """
    if (run / "final" / "digest.txt").exists():
        return True
    if (run / "diverged.txt").exists():
        return False
    run.parent.mkdir(parents=True, exist_ok=True)
    path = run.parent / f"{run.name}.yaml"
    path.write_text(yamlfile.dump(dict(config)))
    launcher = ["mpiexec", "-n", str(ranks)] if ranks else []
    command = [*launcher, sys.executable, "-m", "fedapm_mpi", "train", str(path)]
    command += ["--run-dir", str(run), "--resume", "--progress", "none"]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    ended = subprocess.run(
        command, env=os.environ | threads, capture_output=True, text=True, check=False
    )
    if ended.returncode == DIVERGED and "lower the learning rate" in ended.stderr:
        (run / "diverged.txt").write_text(ended.stderr)
        return False
    if ended.returncode != 0:
        msg = f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stderr}"
        raise SystemExit(msg)
    return True


def curve(run: Path, key: str) -> list[tuple[int, float]]:
    """Return the rounds of a run that recorded a number, and the number."""
    return list(zip(*Run.load(run).curve(key), strict=True))
