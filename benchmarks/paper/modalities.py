"""What clients lose that lack a sensor: HAPT with half of the modalities missing.

    python -m benchmarks.paper.modalities --data DATA --out RUNS [--to docs/results]
        [--variants V...] [--methods M...] [--seeds S...] [--ranks N] [--jobs N]

Trains and then writes ``modalities/modalities.md`` and ``.csv`` (one line a run, with
its digest). The network is the paper's for motion sensors, with the settings that the
fair protocol chose on whole data. Each seed has a split of its own, the same
for all variants, in which other clients, or samples, lack accelerometer or gyroscope,
in training and in testing alike:

full       all have both
samples    each sample lacks each sensor with probability 0.5, never both; one model
skipped    each client likewise; one model for all, which skips what is missing
groups     the same clients, with one model for each kind of client: those who lack a
           sensor have no encoder for it, and its shared GRU is averaged over the rest
"""

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.paper.runs import train
from benchmarks.paper.studies import METHODS, STUDIES, Setting, configuration
from benchmarks.paper.tables import COLUMNS, Cell, read_cell, spread
from fedapm_mpi.utils.atomic_io import write_csv

STUDY = "hapt"
DATA = {
    "full": "hapt-missing-none-s{seed}",
    "samples": "hapt-missing-sample-s{seed}",
    "skipped": "hapt-missing-client-s{seed}",
    "groups": "hapt-missing-client-s{seed}",
}
"""Data set of each variant."""

GROUPS: dict[str, Any] = {
    "groups": [{"missing_inputs": ["gyro"]}, {"missing_inputs": ["acc"]}]
}
HELD: dict[str, Any] = {"partially_shared": ["acc_rnn.*", "gyro_rnn.*"]}
COMPARED = ("fedapm-participants", "fedsim", "local")
FIGURES = ("accuracy_last", "accuracy_last_ten", "worst_decile", "f1", "loss")


def experiment(
    variant: str, method: str, setting: Setting, data: str, seed: int
) -> dict[str, Any]:
    """Return the configuration of one run."""
    study = STUDIES[STUDY]
    config = configuration(study, METHODS[method], setting, data=data, seed=seed)
    changes: dict[str, Any] = {"data": f"{data}/{DATA[variant].format(seed=seed)}"}
    if variant == "groups":
        # Training alone shares nothing that only some could hold.
        changes |= GROUPS | (HELD if "split" in config else {})
        if "split" in config:
            changes["split"] = {"personal": ["*_conv.*"]}
    return {**config, **changes}


def write(path: Path, cells: Sequence[tuple[str, Cell]]) -> None:
    """Write the table and the runs; `cells` are (variant, run)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grouped: dict[tuple[str, str], list[Cell]] = {}
    for variant, cell in cells:
        grouped.setdefault((variant, cell.method), []).append(cell)
    lines = [
        "| modalities | method | accuracy, last round | mean of last ten "
        "| worst decile | F1 | loss | kB a round | seeds |",
        "|---" * 9 + "|",
    ]
    for (variant, method), own in grouped.items():
        figures = [spread([cell.figures[key] for cell in own]) for key in FIGURES]
        sent = sum(cell.figures["bytes"] or 0 for cell in own) / len(own) / 1000
        row = [variant, method, *figures, f"{sent:.0f}", str(len(own))]
        lines.append("| " + " | ".join(row) + " |")
    path.with_suffix(".md").write_text("\n".join(lines) + "\n", "utf-8")
    rows: list[list[object]] = []
    for variant, cell in cells:
        values = (cell.figures[key] for key in COLUMNS)
        texts = ["" if value is None else f"{value:.6g}" for value in values]
        rows.append([variant, cell.method, cell.seed, *texts, cell.digest])
    header = ("modalities", "method", "seed", *COLUMNS, "digest")
    write_csv(path.with_suffix(".csv"), header, rows)


def main(words: Sequence[str] | None = None) -> None:
    """Train the runs that are asked for, and write what came of all that are there."""
    study = STUDIES[STUDY]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper.modalities")
    parser.add_argument("--data", required=True, help="folder of the data sets")
    parser.add_argument("--out", required=True, type=Path, help="folder for the runs")
    parser.add_argument("--to", type=Path, default=Path("docs/results"))
    parser.add_argument("--variants", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument(
        "--methods", nargs="+", choices=COMPARED, default=list(COMPARED)
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=list(study.seeds))
    parser.add_argument("--ranks", type=int, default=0, help="MPI ranks of a run")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    args = parser.parse_args(words)
    data = str(Path(args.data).absolute())
    chosen = json.loads(Path("docs/results/fair", f"{STUDY}.json").read_text())
    root = args.out / "modalities"

    def work(cell: tuple[int, str, str]) -> None:
        seed, variant, method = cell
        setting = Setting(**chosen[method]["setting"])
        run = root / variant / method / f"seed-{seed}"
        ended = train(experiment(variant, method, setting, data, seed), run, args.ranks)
        word = "done" if ended else "DIVERGED"
        print(f"{variant} {method} seed {seed}: {word}", flush=True)

    cells = [(s, v, m) for s in args.seeds for v in args.variants for m in args.methods]
    with ThreadPoolExecutor(args.jobs) as pool:
        for future in [pool.submit(work, cell) for cell in cells]:
            future.result()
    found = [
        (variant, read_cell(run, method, study.target))
        for variant in DATA
        for method in COMPARED
        for run in sorted((root / variant / method).glob("seed-*"))
        if (run / "final" / "digest.txt").exists()
    ]
    write(args.to / "modalities" / "modalities", found)


if __name__ == "__main__":
    main()
