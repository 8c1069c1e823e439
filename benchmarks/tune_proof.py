"""Tune several methods by one budget, and compare what was chosen on test parts.

Prepares the pupils of one grade of star_schools, a client for each school: whether a
pupil's score is above the median, from the other columns but the scores. Each method is
tuned on validation parts by ``fedapm tune`` from its defaults, in its default space,
with the same number of trials and the same passes; FedAvg without fine-tuning, which is
FedAvg-FT. What was chosen is then trained with seeds that the search has not seen, and
evaluated on test parts; differences from FedAPM are paired by seed.

    python -m benchmarks.tune_proof STAR.csv DIR [--trials 24] [--seeds 5]

In place of the csv file any prepared data set with a val part, such as ``watch`` of
``benchmarks.defaults.data``.
"""

import argparse
import csv
import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from data_prep.pipeline import plan, prepare
from fedapm_mpi.api import train
from fedapm_mpi.cli.main import main as fedapm
from fedapm_mpi.config.loader import load
from fedapm_mpi.config.yaml_io import dump

GRADE = "1"
NUMBERS = ("exp", "birthy")
CLASSES = ("cltype", "hdeg", "clad", "trace", "ses", "schtype", "sx", "eth")
PASSES = 40
FIRST_TEST_SEED = 100

METHODS = ("fedapm", "local", "fedavg", "fedavg-ft", "fedsim", "ditto")
SPACES: dict[str, dict[str, Any]] = {"fedavg": {"evaluation.fine_tune": None}}
"""By method: what its default space does not have."""


def table(path: Path) -> dict[str, Any]:
    """Return the arrays of one grade: features, labels, schools."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["gr"] == GRADE]
    columns = []
    for name in NUMBERS:
        known = [float(row[name]) for row in rows if row[name]]
        mean = fmean(known)
        columns.append([float(row[name]) if row[name] else mean for row in rows])
        columns.append([float(not row[name]) for row in rows])
    for name in CLASSES:
        for value in sorted({row[name] for row in rows}):
            columns.append([float(row[name] == value) for row in rows])
    x = np.array(columns, dtype=np.float32).T
    x = x[:, x.std(0) > 0]
    labels = [row["above_median"] for row in rows]
    return {
        "x_pupil": (x - x.mean(0)) / x.std(0),
        "y": np.array(labels),
        "client": np.array([int(row["sch"]) for row in rows]),
    }


def prepared(star: Path, out: Path) -> Path:
    """Return the prepared data set, made if need be."""
    data = out / "data"
    if not (data / "manifest.json").exists():
        np.savez(out / "star.npz", **table(star))
        wanted = plan("arrays", {"split": "random", "test": 0.2, "val": 0.2})
        prepare(wanted, out / "star.npz", data, tell=print)
    return data


def tuned(name: str, data: Path, out: Path, words: list[str]) -> Path:
    """Tune a method; return the folder of the study."""
    values = {
        "data": str(data),
        "model": {"name": "mlp", "hidden": [32]},
        "algorithm": name,
    }
    folder = out / name
    config, space = out / f"{name}.yaml", out / f"{name}-space.yaml"
    config.write_text(dump(values), encoding="utf-8")
    space.write_text(dump(SPACES.get(name, {})), encoding="utf-8")
    command = ["tune", str(config), "--out", str(folder), *words]
    command += ["--passes", str(PASSES)]
    command += ["--space", str(space)] if name in SPACES else []
    code = fedapm(command)
    if code:
        raise SystemExit(code)
    return folder


def tested(folder: Path, seeds: int) -> list[float]:
    """Return the accuracy on test parts of what a study has chosen, seed by seed."""
    found = []
    for k in range(seeds):
        seed = FIRST_TEST_SEED + k
        run = folder / f"test-{seed}"
        config = load(folder / "best.yaml", [f"seed={seed}"])
        if config.evaluation.split != "test":
            msg = f"{folder}: the chosen configuration is evaluated on another part"
            raise SystemExit(msg)
        train(config, run_dir=run, resume=run.exists())
        summary = json.loads((run / "summary.json").read_text("utf-8"))
        found.append(float(summary["accuracy"]["last"]))
    return found


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "raw", type=Path, metavar="RAW", help="STAR.csv, or a prepared data set"
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--search-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=METHODS, choices=METHODS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    known = (args.raw / "manifest.json").exists()
    data = args.raw if known else prepared(args.raw, args.out)
    words = ["--trials", str(args.trials), "--seed", str(args.search_seed)]
    found, validation = {}, {}
    for name in args.only:
        folder = tuned(name, data, args.out, words)
        found[name] = tested(folder, args.seeds)
        with (folder / "trials.csv").open(newline="", encoding="utf-8") as file:
            trials = [row for row in csv.DictReader(file) if not row["repeats"]]
        done = [row["accuracy_at_1"] for row in trials]
        validation[name] = max(float(value) for value in done if value)
    rows = []
    for name, values in found.items():
        row = [name, f"{validation[name]:.4f}", f"{fmean(values):.4f}"]
        ours = found.get("fedapm")
        if ours is None or name == "fedapm" or len(values) < 2:
            rows.append([*row, "", ""])
            continue
        gains = [a - b for a, b in zip(ours, values, strict=True)]
        error = stdev(gains) / len(gains) ** 0.5
        rows.append([*row, f"{fmean(gains):+.4f}", f"{error:.4f}"])
    header = ["method", "validation", "test", "FedAPM minus it", "standard error"]
    for row in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
