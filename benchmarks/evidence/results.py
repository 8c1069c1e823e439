"""What is kept of the study's runs: a row each, in plain files.

    python -m benchmarks.evidence.results OUT --to docs/results/evidence

writes, for every data set and participation, ``runs/SET-PARTICIPATION.csv`` with all
that tables need of a run, and ``settings/SET/PARTICIPATION/METHOD.yaml`` with what the
search of a method chose. A table is written once all of its methods have ended, or by
``--partial``.
"""

import argparse
import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.evidence.sets import PARTICIPATION, SETS
from benchmarks.evidence.study import METHODS, Cell, Final, finals
from fedapm_mpi.analysis.run import Run
from fedapm_mpi.config.yaml_io import dump, parse
from fedapm_mpi.utils.atomic_io import write_csv, write_text

METRICS = ("accuracy", "f1", "auroc", "loss")
COLUMNS = (
    "method", "seed", "replicate", "rounds", "passes", *METRICS, "worst_decile",
    "bytes", "seconds", "digest", "commit", "torch", "numpy", "processor", "data",
    "clients", "curve",
)  # fmt: skip
DIGITS = 5


class Row(NamedTuple):
    """One run of a table."""

    method: str
    final: Final
    values: dict[str, str]

    @property
    def failed(self) -> bool:
        """Return whether its loss was not finite."""
        return not self.values["accuracy"]

    def number(self, name: str) -> float:
        """Return a number of it; NaN if it has none."""
        return float(self.values[name] or "nan")

    def clients(self) -> NDArray[np.float64]:
        """Return the accuracy of each client; zero if the run has failed."""
        return np.array([float(one) for one in self.values["clients"].split()])

    def curve(self) -> list[tuple[int, float]]:
        """Return evaluated rounds, and the accuracy after them."""
        pairs = [one.split(":") for one in self.values["curve"].split()]
        return [(int(round_), float(value)) for round_, value in pairs]


def file_name(name: str, participation: str) -> str:
    """Return the name of a table."""
    return f"{name}-{participation.rstrip('%')}"


def read_run(folder: Path, method: str, final: Final, passes: float) -> dict[str, Any]:
    """Return the row of a run that has ended."""
    source = json.loads((folder / "provenance.json").read_text("utf-8"))
    row: dict[str, Any] = {
        "method": method,
        "seed": final.seed,
        "replicate": final.replicate,
        "passes": f"{passes:g}",
        "commit": (source["git_revision"] or "")[:12],
        "torch": source["packages"]["torch"],
        "numpy": source["packages"]["numpy"],
        "processor": source["processor_model"],
        "data": source["manifest"]["sha256"][:12],
    }
    run = Run.load(folder)
    row["rounds"] = run.config.rounds
    if (folder / "failed").exists():
        return row
    last = run.records[-1]
    sent = [one["bytes"] for one in run.records if "bytes" in one]
    total = sum(one["broadcast"] + one["reduce"] for one in sent) / len(sent)
    for name in METRICS:
        row[name] = _text(last[name])
    row["worst_decile"] = _text(last["accuracy_worst_decile"])
    row["bytes"] = round(total)
    seconds = sum(one["wall_seconds"] or 0 for one in run.records)
    row["seconds"] = f"{seconds:.1f}"
    row["digest"] = (folder / "final" / "digest.txt").read_text("utf-8").split()[0]
    row["clients"] = " ".join(_text(one["accuracy"]) for one in run.clients)
    rounds, values = run.curve("accuracy")
    pairs = zip(rounds, values, strict=True)
    row["curve"] = " ".join(f"{at}:{_text(value)}" for at, value in pairs)
    return row


def _text(value: float) -> str:
    return f"{value:.{DIGITS}g}"


def collected(out: Path, name: str, participation: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table: of the methods all of whose runs have ended."""
    for method in METHODS:
        cell = Cell(name, participation, method)
        folders = [(cell.folder(out) / run.name, run) for run in finals(name)]
        ended = [
            (folder / "final" / "digest.txt").exists() or (folder / "failed").exists()
            for folder, _ in folders
        ]
        if not all(ended):
            continue
        study = json.loads((cell.folder(out) / "search" / "study.json").read_text())
        for folder, run in folders:
            yield read_run(folder, method, run, float(study["passes"]))


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file."""
    with path.open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    return [
        Row(one["method"], Final(int(one["seed"]), int(one["replicate"])), one)
        for one in found
    ]


def write_setting(cell: Cell, out: Path, to: Path) -> None:
    """Publish what the search of a cell chose, the data set by its name alone."""
    chosen = parse((cell.folder(out) / "search" / "best.yaml").read_text("utf-8"))
    path = to / "settings" / cell.set / cell.participation / f"{cell.method}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, dump({**chosen, "data": cell.set}))


def methods_of(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return the methods of rows, each once."""
    return list(dict.fromkeys(str(row["method"]) for row in rows))


def main() -> None:
    """Collect what has ended."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="--out of the study")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--partial", action="store_true", help="tables with gaps too")
    args = parser.parse_args()
    written = 0
    for name in SETS:
        for participation in PARTICIPATION:
            rows = list(collected(args.out, name, participation))
            missing = set(METHODS) - set(methods_of(rows))
            if not rows or (missing and not args.partial):
                continue
            path = args.to / "runs" / f"{file_name(name, participation)}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [[row.get(column, "") for column in COLUMNS] for row in rows]
            write_csv(path, COLUMNS, lines)
            for method in methods_of(rows):
                write_setting(Cell(name, participation, method), args.out, args.to)
            print(f"{path}: {len(rows)} runs", flush=True)
            written += 1
    if not written:
        parser.error(f"{args.out} has no table whose methods have all ended")


if __name__ == "__main__":
    main()
