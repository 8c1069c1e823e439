"""The comparison of the quickstart over seeds, at several instruction levels.

Each seed draws its own labels (``fedapm prepare ... seed=S``) and its own initial model
and batches (``fedapm train ... seed=S``). The configurations are those that
``launch/quickstart`` trains, and are read from there; it does seed 1. All methods of a
seed have the same data and labels, so differences are paired by seed.

    python -m benchmarks.quickstart RAW DIR [--seeds 1 2 3 4 5] [--to docs/results/...]

``RAW`` is what ``fedapm download watch`` has got, and ``DIR`` is where data sets and
runs go; finished runs are used again. A level tells the libraries which instructions of
the processor to use: ``native`` all of them, ``avx2`` those of an older processor,
whose other order of rounding gives other bits.

With ``--all-labels`` every training window is labelled, and nothing else differs.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from benchmarks._common import keep, machine
from data_prep.pipeline import plan, prepare
from fedapm_mpi.api import train
from fedapm_mpi.config.loader import load
from fedapm_mpi.config.overrides import parse_overrides
from fedapm_mpi.errors import FedAPMError

LAUNCH = Path(__file__).parents[1] / "launch"

METHODS = {
    "FedAPM": "watch.yaml",
    "FedAvg-FT": "watch_fedavg_ft.yaml",
    "local-only": "watch_local.yaml",
}
"""Method to its configuration in ``launch``; the first is compared with the others."""

PREPARE = (
    "features=statistics", "shift=standardise", "shift.over=pooled", "val=0.2",
    "keep.per_client=14", "keep.stratified=false",
)  # fmt: skip
"""Words of ``fedapm prepare watch`` besides the seed."""

LEVELS = {
    "native": {},
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_CBWR": "COMPATIBLE",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    },
}
"""Level to the environment that sets it; read when torch is loaded."""

METRICS = ("accuracy", "f1", "auroc", "loss")
HEADER = (
    "level", "seed", "method", "accuracy", "accuracy_worst_decile", "f1", "auroc",
    "loss", "accuracy_mean_of_last_ten", "digest",
)  # fmt: skip

Row = Mapping[str, str]


def data_of(raw: Path, out: Path, seed: int, *, all_labels: bool) -> Path:
    """Return the data set of a seed, made if need be."""
    words = [w for w in PREPARE if not (all_labels and w.startswith("keep."))]
    data = out / "data" / f"{seed}{'-all' if all_labels else ''}"
    values = parse_overrides([*words, f"seed={seed}"])
    prepare(plan("watch", values), raw, data)
    return data


def train_level(args: argparse.Namespace, level: str) -> None:
    """Train every method with every seed; the environment has the level."""
    for seed in args.seeds:
        data = data_of(args.raw, args.out, seed, all_labels=args.all_labels)
        for method, file in METHODS.items():
            run = run_of(args.out, level, seed, method, all_labels=args.all_labels)
            config = load(LAUNCH / file, [f"seed={seed}", f"data={data}"])
            train(config, run_dir=run, resume=run.exists())
            print(*row_of(run, level, seed, method), flush=True)


def run_of(out: Path, level: str, seed: int, method: str, *, all_labels: bool) -> Path:
    """Return the directory of a run."""
    labels = "all" if all_labels else "few"
    return out / "runs" / labels / level / f"{method}-{seed}"


def row_of(run: Path, level: str, seed: int, method: str) -> list[object]:
    """Return what a run came to, as `HEADER` has it."""
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    digest = (run / "final" / "digest.txt").read_text("utf-8").split()[0]
    last = {name: summary[name]["last"] for name in METRICS}
    return [
        level, seed, method, last["accuracy"], summary["accuracy"]["last_worst_decile"],
        last["f1"], last["auroc"], last["loss"],
        summary["accuracy"]["mean_of_last_ten"], digest,
    ]  # fmt: skip


def spread(values: Sequence[float]) -> str:
    """Return mean ± standard deviation over seeds."""
    deviation = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{fmean(values):.3f}{deviation}"


def gain(ours: Mapping[str, float], theirs: Mapping[str, float]) -> str:
    """Return the mean difference over seeds, its standard error, and their ratio."""
    gains = [ours[seed] - theirs[seed] for seed in sorted(ours)]
    if len(gains) < 2:
        return f"{fmean(gains):+.3f}"
    error = stdev(gains) / len(gains) ** 0.5
    ratio = f" ({fmean(gains) / error:.1f} standard errors)" if error else ""
    return f"{fmean(gains):+.3f} ± {error:.3f}{ratio}"


def table(rows: Iterable[Row]) -> str:
    """Return the comparison as a Markdown table, a block for each level.

    Parameters
    ----------
    rows
        Of `HEADER`, as texts.
    """
    header = ["level", "method", "accuracy", "worst decile", "F1, weighted", "AUROC",
              "loss", f"{next(iter(METHODS))} minus it, accuracy"]  # fmt: skip
    lines = [header, ["---"] * len(header)]
    rows = list(rows)
    for level in dict.fromkeys(row["level"] for row in rows):
        here = [row for row in rows if row["level"] == level]
        by_seed = {
            method: {r["seed"]: float(r["accuracy"]) for r in here
                     if r["method"] == method}
            for method in METHODS
        }  # fmt: skip
        ours, *_ = by_seed.values()
        for number, method in enumerate(METHODS):
            own = [row for row in here if row["method"] == method]
            cells = [
                spread([float(row[key]) for row in own])
                for key in ("accuracy", "accuracy_worst_decile", "f1", "auroc", "loss")
            ]
            lines.append(
                [level, method, *cells, gain(ours, by_seed[method]) if number else ""]
            )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def publish(args: argparse.Namespace) -> None:
    """Print the table, and write it with its rows where that is asked for."""
    rows = [
        row_of(run_of(args.out, level, seed, method, all_labels=args.all_labels),
               level, seed, method)
        for level in args.levels for seed in args.seeds for method in METHODS
    ]  # fmt: skip
    name = "all-labels" if args.all_labels else "few-labels"
    path = (args.to or args.out) / f"{name}.csv"
    keep(path, HEADER, rows)
    with path.open(newline="", encoding="utf-8") as file:
        made = table(csv.DictReader(file))
    seeds = ", ".join(map(str, args.seeds))
    text = f"Seeds {seeds}; {machine()}.\n\n{made}"
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text, end="")


def main() -> None:
    """Run the comparison, each level in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("raw", type=Path, metavar="RAW")
    parser.add_argument("out", type=Path, metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=[*LEVELS])
    parser.add_argument("--all-labels", action="store_true")
    parser.add_argument("--to", type=Path, help="where to write; DIR unless given")
    parser.add_argument("--train", choices=LEVELS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        try:
            train_level(args, args.train)
        except FedAPMError as error:
            msg = f"quickstart.py: {error}"
            raise SystemExit(msg) from error
        return
    for level in args.levels:
        command = [sys.executable, "-m", "benchmarks.quickstart", *sys.argv[1:]]
        env = {**os.environ, **LEVELS[level]}
        code = subprocess.run([*command, "--train", level], env=env, check=False)
        if code.returncode:
            raise SystemExit(code.returncode)  # it has said why
    publish(args)


if __name__ == "__main__":
    main()
