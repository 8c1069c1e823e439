"""Tune every method on every data set by one budget, then train what was chosen.

    python -m benchmarks.evidence.study DATA --out OUT [--sets NAME...] [--methods M...]
                                        [--participation full 30%] [--jobs N]

DATA is what ``benchmarks.evidence.data`` wrote. A cell is a method on a data set with a
participation. ``fedapm tune`` searches its default space on val parts, from the
package's defaults; what it chose is then trained with seeds that the search has not
seen, and evaluated on test parts, which are read here for the first time. The first of
these seeds is also trained as replicates, whose initial models are moved by units in
the last place.

What is there is not repeated, and what was interrupted continues. A cell is a process
of one thread. Results are collected by ``benchmarks.evidence.results``.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.evidence.sets import PARTICIPATION, SETS
from fedapm_mpi.algorithms.base import algorithms
from fedapm_mpi.api import train
from fedapm_mpi.cli.main import main as fedapm
from fedapm_mpi.config.loader import load
from fedapm_mpi.config.yaml_io import dump
from fedapm_mpi.errors import TrainingError

TRIALS = 24
SEARCH_SEED = 0
FIRST_TEST_SEED = 100
REPLICATES = 2
"""Further runs of the first test seed, from models moved by units in the last place."""

EVALUATIONS = 20
"""Of a final run, evenly over its rounds."""

METHODS = (
    "fedapm", "local", "fedavg", "fedavg-ft", "ditto", "fedsim", "fedalt", "fedper",
    "fedrep", "fedbabu", "pfedme", "flame", "fedprox", "scaffold", "feddyn", "fedadmm",
    "iiadmm", "iceadmm",
)  # fmt: skip
"""All of the package's, those first that a reader needs first."""

SPACES: Mapping[str, Mapping[str, Any]] = {"fedavg": {"evaluation.fine_tune": None}}
"""By method: what its default space does not have. FedAvg that fine-tunes is FedAvg-FT;
without it there is one model for all."""


class Cell(NamedTuple):
    """A method on a data set."""

    set: str
    participation: str
    method: str

    def folder(self, out: Path) -> Path:
        """Return the folder of its search and its runs."""
        return out / self.set / self.participation / self.method


class Final(NamedTuple):
    """A final run of a cell."""

    seed: int
    replicate: int

    @property
    def name(self) -> str:
        """Return the name of its run directory."""
        more = f"-{self.replicate}" if self.replicate else ""
        return f"test-{self.seed}{more}"


def cells(
    sets: Sequence[str], participation: Sequence[str], methods: Sequence[str]
) -> Iterator[Cell]:
    """Yield cells in the order of the sets."""
    for name in sets:
        for part in participation:
            for method in methods:
                yield Cell(name, part, method)


def finals(name: str) -> list[Final]:
    """Return the final runs of each cell of a data set."""
    seeds = range(FIRST_TEST_SEED, FIRST_TEST_SEED + SETS[name].test_seeds)
    again = [Final(FIRST_TEST_SEED, k + 1) for k in range(REPLICATES)]
    return [Final(seed, 0) for seed in seeds] + again


def configuration(cell: Cell, data: Path) -> dict[str, Any]:
    """Return the configuration that a search begins with: the package's defaults."""
    chosen = SETS[cell.set]
    return {
        "data": str(data / cell.set),
        "model": dict(chosen.model),
        "algorithm": cell.method,
        "participation": dict(PARTICIPATION[cell.participation]),
        "stacked": "auto",
    }


def tune(cell: Cell, data: Path, out: Path) -> Path:
    """Search; return the file with what was chosen."""
    folder = cell.folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    config, space = folder / "start.yaml", folder / "space.yaml"
    config.write_text(dump(configuration(cell, data)), encoding="utf-8")
    words = ["tune", str(config), "--out", str(folder / "search")]
    words += ["--trials", str(TRIALS), "--seed", str(SEARCH_SEED)]
    words += ["--passes", str(SETS[cell.set].passes)]
    if cell.method in SPACES:
        space.write_text(dump(dict(SPACES[cell.method])), encoding="utf-8")
        words += ["--space", str(space)]
    code = fedapm(words)
    if code:
        raise SystemExit(code)
    return folder / "search" / "best.yaml"


def final(
    cell: Cell, chosen: Path, out: Path, run: Final, data: Path | None = None
) -> None:
    """Train what was chosen with one seed, evaluated on test parts.

    Parameters
    ----------
    cell, run
        The cell, and its run.
    chosen
        The configuration.
    out
        Folder of the study.
    data
        Folder of the data sets, if not the one that the configuration names.
    """
    folder = cell.folder(out) / run.name
    if (folder / "final" / "digest.txt").exists() or (folder / "failed").exists():
        return
    rounds = load(chosen, []).rounds
    every = max(1, round(rounds / EVALUATIONS))
    changes = [f"seed={run.seed}", f"evaluation.every={every}"]
    changes += [f"checkpoint.every={rounds}", "evaluation.split=test"]
    changes += [f"replicate={run.replicate}"] if run.replicate else []
    changes += [f"data={data.absolute() / cell.set}"] if data is not None else []
    try:
        train(load(chosen, changes), run_dir=folder, resume=folder.exists())
    except TrainingError as error:  # a loss that is not finite is a result
        (folder / "failed").write_text(str(error), encoding="utf-8")


def work(cell: Cell, data: Path, out: Path) -> None:
    """Do all of a cell that is not there yet."""
    best = cell.folder(out) / "search" / "best.yaml"
    if not best.exists():
        best = tune(cell, data, out)
    for run in finals(cell.set):
        final(cell, best, out, run)


def finished(cell: Cell, out: Path) -> bool:
    """Return whether nothing of a cell is left to do."""
    folder = cell.folder(out)
    runs = [folder / run.name for run in finals(cell.set)]
    return all(
        (run / "final" / "digest.txt").exists() or (run / "failed").exists()
        for run in runs
    )


def in_a_process(cell: Cell, data: Path, out: Path) -> int:
    """Do a cell in a process of its own; return its exit code."""
    folder = cell.folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "benchmarks.evidence.study", str(data)]
    words += ["--out", str(out), "--cell", json.dumps(cell)]
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        return subprocess.run(
            words,
            env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode


def main() -> None:
    """Do what is not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument(
        "--participation", nargs="+", default=list(PARTICIPATION), choices=PARTICIPATION
    )
    parser.add_argument("--jobs", type=int, default=1, help="cells at the same time")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    args = parser.parse_args()
    assert sorted(METHODS) == algorithms.builtin_names()
    if args.cell:
        work(Cell(*json.loads(args.cell)), args.data.absolute(), args.out)
        return

    def one(cell: Cell) -> int:
        if finished(cell, args.out):
            return 0
        code = in_a_process(cell, args.data, args.out)
        print(*cell, "done" if code == 0 else f"ended with {code}", flush=True)
        return code

    wanted = cells(args.sets, args.participation, args.methods)
    with ThreadPoolExecutor(args.jobs) as pool:
        codes = list(pool.map(one, wanted))
    if any(codes):
        msg = "some cells did not end; the same command continues"
        raise SystemExit(msg)


if __name__ == "__main__":
    main()
