"""Gather finished runs into tables and curves.

    python -m benchmarks.paper.tables RUNS --to docs/results

For every study of the fair protocol, and its methods of which every seed has ended:
``fair/STUDY.md`` (the table), ``.csv`` (one line a cell, with its digest),
``-curves.csv``, ``.png`` (means with bands over seeds) and ``.json`` (the settings
chosen, and every trial). For the published protocol: the same without settings, with
the authors' accuracies.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, NamedTuple

from benchmarks.paper.published import AUTHORS
from benchmarks.paper.runs import curve
from benchmarks.paper.studies import METHODS, STUDIES
from fedapm_mpi.analysis.run import Run
from fedapm_mpi.utils.atomic_io import write_csv

COLUMNS = (
    "accuracy_last", "accuracy_last_ten", "worst_decile", "f1", "loss",
    "rounds_to_target", "bytes",
)  # fmt: skip
PALETTE = 10
"""Colours of the figures before they begin again."""


class Cell(NamedTuple):
    """One finished run."""

    method: str
    seed: int
    figures: Mapping[str, float | None]
    accuracy: Sequence[tuple[int, float]]
    """By evaluated round."""

    digest: str


def read_cell(run: Path, method: str, target: float) -> Cell:
    """Read a finished run."""
    summary = json.loads((run / "summary.json").read_text())
    accuracy = curve(run, "accuracy")
    sent = [r["bytes"] for r in Run.load(run).records if "bytes" in r]
    return Cell(
        method,
        int(run.name.removeprefix("seed-")),
        {
            "accuracy_last": summary["accuracy"]["last"],
            "accuracy_last_ten": summary["accuracy"]["mean_of_last_ten"],
            "worst_decile": summary["accuracy"]["last_worst_decile"],
            "f1": summary["f1"]["last"],
            "loss": summary["loss"]["last"],
            "rounds_to_target": next((t for t, a in accuracy if a >= target), None),
            "bytes": sum(b["broadcast"] + b["reduce"] for b in sent) / len(sent),
        },
        accuracy,
        (run / "final" / "digest.txt").read_text().strip(),
    )


def read_cells(folder: Path, methods: Sequence[str], target: float) -> list[Cell]:
    """Read all finished runs of a study, in the order of the methods."""
    return [
        read_cell(run, method, target)
        for method in methods
        for run in sorted((folder / method).glob("seed-*"))
        if (run / "final" / "digest.txt").exists()
    ]


def whole(cells: Sequence[Cell], seeds: Sequence[int]) -> list[Cell]:
    """Return the cells of methods of which every seed has ended.

    Until then a seed may still diverge, and the step size with it.
    """
    ended = {
        method
        for method, own in by_method(cells).items()
        if {cell.seed for cell in own} == set(seeds)
    }
    return [cell for cell in cells if cell.method in ended]


def by_method(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return the cells of each method."""
    grouped: dict[str, list[Cell]] = {}
    for cell in cells:
        grouped.setdefault(cell.method, []).append(cell)
    return grouped


def spread(values: Sequence[float | None], digits: int = 3) -> str:
    """Return mean ± standard deviation over seeds; a dash where one is missing."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "–" if not known else f"{fmean(known):.0f} ({len(known)}/{len(values)})"
    if len(known) == 1:
        return f"{known[0]:.{digits}f}"
    return f"{fmean(known):.{digits}f} ± {pstdev(known):.{digits}f}"


def fair_table(cells: Sequence[Cell], chosen: Mapping[str, Any], target: float) -> str:
    """Return the table of a fair study in Markdown."""
    lines = [
        "| method | step size | coefficient | accuracy, last round | mean of last ten "
        f"| worst decile | F1 | loss | rounds to {target} | kB a round | seeds |",
        "|---" * 11 + "|",
    ]
    for method, own in by_method(cells).items():
        setting = chosen.get(method, {}).get("setting", {})
        coefficient = setting.get("coefficient")
        diverged = [f"{d['lr']}" for d in chosen.get(method, {}).get("diverged", [])]
        figures = {key: [cell.figures[key] for cell in own] for key in COLUMNS}
        row = [
            method,
            f"{setting.get('lr', '')}"
            + (f" ({', '.join(diverged)} diverged)" if diverged else ""),
            "" if coefficient is None else f"{coefficient:g}",
            *(spread(figures[key]) for key in COLUMNS[:5]),
            spread(figures["rounds_to_target"], 0),
            f"{fmean(cell.figures['bytes'] or 0 for cell in own) / 1000:.0f}",
            f"{len(own)}",
        ]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def published_table(cells: Sequence[Cell]) -> str:
    """Return our accuracies and the authors', by round, in Markdown."""
    lines = [
        "| method | round | authors | here | difference | seeds |",
        "|---" * 6 + "|",
    ]
    for method, own in by_method(cells).items():
        for t, theirs in AUTHORS[method].items():
            ours = [dict(cell.accuracy).get(t) for cell in own]
            known = [value for value in ours if value is not None]
            if known:
                gap = fmean(known) - theirs
                lines.append(
                    f"| {method} | {t} | {theirs:.3f} | {spread(known)} | {gap:+.3f} "
                    f"| {', '.join(str(cell.seed) for cell in own)} |"
                )
    return "\n".join(lines) + "\n"


def write_cells(path: Path, cells: Sequence[Cell]) -> None:
    """Write one line a cell, and the curves, as CSV."""
    figures = [
        [cell.method, cell.seed, *(_cell(cell.figures[key]) for key in COLUMNS),
         cell.digest]
        for cell in cells
    ]  # fmt: skip
    write_csv(path.with_suffix(".csv"), ("method", "seed", *COLUMNS, "digest"), figures)
    curves = [
        [cell.method, cell.seed, t, _cell(value)]
        for cell in cells
        for t, value in cell.accuracy
    ]
    file = path.with_name(f"{path.stem}-curves.csv")
    write_csv(file, ("method", "seed", "round", "accuracy"), curves)


def draw(path: Path, cells: Sequence[Cell], title: str) -> None:
    """Draw accuracy by round: means over seeds, and bands from lowest to highest."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 4.2), constrained_layout=True)
    for number, (method, own) in enumerate(by_method(cells).items()):
        dashes = "-" if number < PALETTE else "--"
        common = set.intersection(*({t for t, _ in cell.accuracy} for cell in own))
        rounds = sorted(common)
        values = [[dict(cell.accuracy)[t] for cell in own] for t in rounds]
        means = [fmean(v) for v in values]
        (line,) = ax.plot(rounds, means, dashes, label=method, lw=1.3)
        low, high = [min(v) for v in values], [max(v) for v in values]
        ax.fill_between(rounds, low, high, color=line.get_color(), alpha=0.15, lw=0)
    ax.set(title=title, xlabel="round", ylabel="mean accuracy of all clients")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, ncols=2)
    figure.savefig(path.with_suffix(".png"), dpi=110, metadata={"Software": None})
    plt.close(figure)


def gather_fair(runs: Path, to: Path) -> None:
    """Gather every study of the fair protocol that has a finished run."""
    for name, study in STUDIES.items():
        folder, path = runs / "fair" / name, to / "fair" / name
        cells = whole(read_cells(folder, list(METHODS), study.target), study.seeds)
        if not cells:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        chosen = {
            method: json.loads(file.read_text())
            for method in by_method(cells)
            if (file := folder / method / "chosen.json").exists()
        }
        path.with_suffix(".json").write_text(json.dumps(chosen, indent=1) + "\n")
        table = fair_table(cells, chosen, study.target)
        path.with_suffix(".md").write_text(table, "utf-8")
        write_cells(path, cells)
        draw(path, cells, f"{name}: fair protocol, bands over seeds")


def gather_published(runs: Path, to: Path) -> None:
    """Gather the published protocol, if any of it was run."""
    folder, path = runs / "published" / "cifar10", to / "published" / "cifar10"
    cells = read_cells(folder, list(AUTHORS), 0.6)
    if cells:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".md").write_text(published_table(cells), "utf-8")
        write_cells(path, cells)
        draw(path, cells, "CIFAR-10: published protocol, bands over seeds")


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def main(words: Sequence[str] | None = None) -> None:
    """Gather all there is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper.tables")
    parser.add_argument("runs", type=Path, help="folder of the runs")
    parser.add_argument("--to", type=Path, default=Path("docs/results"))
    args = parser.parse_args(words)
    gather_fair(args.runs, args.to)
    gather_published(args.runs, args.to)


if __name__ == "__main__":
    main()
