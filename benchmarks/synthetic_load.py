"""A scaling study whose work is to sleep, so that few cores suffice.

    python -m benchmarks.synthetic_load FOLDER
    fedapm scale run FOLDER/study.yaml --out FOLDER/out
    fedapm scale report FOLDER/out
    fedapm scale fit FOLDER/out

Writes data, experiment and study. Each rank of the weak study has twelve clients of the
same sizes, a quarter of which take part; the strong study has eight such dozens. The
work of a client is known (`benchmarks.load_balance`); the study measures the rest, and
whether a model that is fitted to 1 to 8 client ranks predicts 16.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import load_balance as balance
from fedapm_mpi.config import yaml_io as yamlfile

EACH, DOZENS, STRONG = 12, 16, 8
RANKS = [1, 2, 4, 8, 16]


def experiment(data: Path) -> dict[str, Any]:
    """Return the configuration that is trained."""
    return {
        "data": str(data),
        "model": {"name": "mlp", "hidden": [32]},
        "algorithm": "benchmarks.load_balance:Sleep",
        "participation": {"name": "random", "fraction": 0.25},
        "rounds": 14,
        "evaluation": {"every": 7, "clients": "participants"},
        "checkpoint": {"every": 14},
    }


def main(words: Sequence[str] | None = None) -> None:
    """Write data, experiment and study."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.synthetic_load")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args(words).folder
    folder.mkdir(parents=True, exist_ok=True)
    data = balance.prepare(folder, np.tile(balance.sizes(EACH), DOZENS))
    study = {
        "config": "train.yaml",
        "overrides": {"clients": STRONG * EACH},
        "strong": {"client_ranks": RANKS},
        "weak": {"client_ranks": RANKS, "clients_per_rank": EACH},
        "repetitions": 3,
        "warmup_rounds": 2,
    }
    for name, values in (("train", experiment(data)), ("study", study)):
        text = yamlfile.dump(values)
        (folder / f"{name}.yaml").write_text(text)


if __name__ == "__main__":
    main()
