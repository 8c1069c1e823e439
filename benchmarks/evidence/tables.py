"""The tables of docs/results/evidence, from the runs that are published with them.

    python -m benchmarks.evidence.tables docs/results/evidence

writes a table for every file of ``runs``, and ``summary.md``: FedAPM against each other
method on each set, and each method against the best. Means are over seeds; ± is the
standard deviation of a run, over seeds and over rounding. A difference that a paired
bootstrap over seeds and clients does not separate from zero is called level.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.evidence.bootstrap import (
    Difference,
    difference,
    mean,
    spread,
    worst_decile,
)
from benchmarks.evidence.results import Row, file_name, read_rows
from benchmarks.evidence.sets import PARTICIPATION, SETS
from fedapm_mpi.utils.atomic_io import write_text

OURS = "fedapm"
TARGET = 0.95
"""The target of a table, as a part of the best mean accuracy in it."""

SUMMARY = """Accuracy, worst decile, rounds to the target: FedAPM is ahead (`+`), level
(`=`) or behind (`−`)."""
BEST = """Mean accuracy less that of the best method on each set; `*` where the
bootstrap separates the two."""

Rows = Sequence[Row]


class Method:
    """The runs of a method in a table."""

    def __init__(self, name: str, rows: Rows) -> None:
        own = [row for row in rows if row.method == name]
        self.name = name
        self.seeds = [row for row in own if row.final.replicate == 0]
        first = self.seeds[0].final.seed
        self.replicates = [row for row in own if row.final.seed == first]

    @property
    def failed(self) -> int:
        """Number of seeds whose loss was not finite."""
        return sum(row.failed for row in self.seeds)

    def values(self, column: str) -> NDArray[np.float64]:
        """Return a column, a number for each seed that has one."""
        found = np.array([row.number(column) for row in self.seeds])
        finite: NDArray[np.float64] = found[~np.isnan(found)]
        return finite

    def mean(self, column: str) -> float:
        """Return the mean over seeds."""
        found = self.values(column)
        return float(found.mean()) if len(found) else float("nan")

    def text(self, column: str) -> str:
        """Return the mean over seeds, and the spread of a run."""
        seeds = self.values(column)
        again = np.array([row.number(column) for row in self.replicates])
        wide = spread(seeds, again[~np.isnan(again)])
        more = "" if np.isnan(wide) else f" ± {wide:.3f}"
        return known(self.mean(column)) + more

    def by_seed(self) -> dict[int, Row]:
        """Return its runs by seed, without replicates."""
        return {row.final.seed: row for row in self.seeds}

    def clients(self, seeds: Sequence[int], like: int) -> NDArray[np.float64]:
        """Return the accuracies (seeds, clients); a run that failed has zeros."""
        found = self.by_seed()
        rows = [None if found[one].failed else found[one].clients() for one in seeds]
        return np.array([np.zeros(like) if row is None else row for row in rows])

    def rounds_to(self, target: float) -> dict[int, float]:
        """Return by seed the first evaluated round with a target; infinity if none."""
        return {
            row.final.seed: float(
                next((at for at, value in row.curve() if value >= target), np.inf)
            )
            for row in self.seeds
        }


def in_both(ours: Method, other: Method) -> list[int]:
    """Return the seeds that two methods have; a table with gaps may lack some."""
    return sorted(ours.by_seed().keys() & other.by_seed().keys())


def known(value: float, digits: int = 3) -> str:
    """Return a number as text; a dash if there is none."""
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def methods_in(rows: Rows) -> list[Method]:
    """Return the methods of a table, the most accurate first."""
    names = dict.fromkeys(row.method for row in rows)
    found = [Method(name, rows) for name in names]
    return sorted(found, key=lambda one: -np.nan_to_num(one.mean("accuracy")))


def compared(
    ours: Method, other: Method, statistic: Callable[..., NDArray[np.float64]]
) -> Difference | None:
    """Return FedAPM's accuracy less another method's; None without a common seed."""
    seeds = in_both(ours, other)
    if not seeds:
        return None
    # Where no run of both was finite there are no clients, and both have zeros.
    count = max(1, *(len(row.clients()) for row in (*ours.seeds, *other.seeds)))
    both = (ours.clients(seeds, count), other.clients(seeds, count))
    return difference(*both, statistic)


def verdict(found: Difference | None) -> str:
    """Return a difference in words: level, or by how much and within what."""
    if found is None:
        return "–"
    if found.level:
        return f"level ({found.low:+.3f} to {found.high:+.3f})"
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def to_target(one: Method, target: float) -> tuple[str, str, str]:
    """Return rounds, passes and megabytes to the target.

    Where only some seeds reach it, it is their mean, and how many they are.
    """
    reached = list(one.rounds_to(target).values())
    found = [at for at in reached if at < np.inf]
    if not found:
        return "–", "–", "–"
    rounds = float(np.mean(found))
    part = f" ({len(found)}/{len(reached)})" if len(found) < len(reached) else ""
    passes = rounds * one.mean("passes") / one.mean("rounds")
    sent = rounds * one.mean("bytes") / 1e6
    return f"{rounds:.0f}{part}", f"{passes:.0f}", f"{sent:.2f}"


def table(rows: Rows) -> str:
    """Return the table of a data set and a participation."""
    methods = methods_in(rows)
    ours = next((one for one in methods if one.name == OURS), None)
    target = TARGET * methods[0].mean("accuracy")
    header = [
        "method", "accuracy", "FedAPM less it", "worst decile", "FedAPM less it", "F1",
        "AUROC", "loss", f"rounds to {target:.3f}", "passes to it", "MB to it",
        "kB a round", "rounds", "passes", "seconds", "seeds",
    ]  # fmt: skip
    lines = [header, ["---"] * len(header)]
    for one in methods:
        verdicts = ["", ""]
        if ours is not None and one is not ours:
            verdicts = [
                verdict(compared(ours, one, statistic))
                for statistic in (mean, worst_decile)
            ]
        rounds, passes, sent = to_target(one, target)
        lost = f" ({one.failed} not finite)" if one.failed else ""
        lines.append([
            one.name, one.text("accuracy"), verdicts[0], one.text("worst_decile"),
            verdicts[1], known(one.mean("f1")), known(one.mean("auroc")),
            known(one.mean("loss")), rounds, passes, sent,
            known(one.mean("bytes") / 1000, 1), known(one.mean("rounds"), 0),
            known(one.mean("passes"), 0), known(one.mean("seconds"), 0),
            f"{len(one.seeds)}{lost}",
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def mark(ours: Method, other: Method, target: float) -> str:
    """Return a cell of the summary: accuracy, worst decile, rounds to the target."""
    signs = []
    for statistic in (mean, worst_decile):
        found = compared(ours, other, statistic)
        if found is None:
            return "–"
        signs.append("=" if found.level else "+" if found.value > 0 else "−")
    here, there = ours.rounds_to(target), other.rounds_to(target)
    pairs = [(here[one], there[one]) for one in in_both(ours, other)]
    if all(a < b for a, b in pairs):
        signs.append("+")
    else:
        signs.append("−" if all(a > b for a, b in pairs) else "=")
    return " ".join(signs)


def summary(tables: Mapping[str, Rows]) -> str:
    """Return FedAPM against each other method on each set."""
    names = list(tables)
    others: dict[str, dict[str, str]] = {}
    for name, rows in tables.items():
        methods = methods_in(rows)
        ours = next((one for one in methods if one.name == OURS), None)
        if ours is None:
            continue
        target = TARGET * methods[0].mean("accuracy")
        for one in methods:
            if one is not ours:
                others.setdefault(one.name, {})[name] = mark(ours, one, target)
    header = ["method", *names]
    lines = [header, ["---"] * len(header)]
    lines += [[one, *(own.get(n, "") for n in names)] for one, own in others.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def against_best(tables: Mapping[str, Rows]) -> str:
    """Return by how much each method is below the best of each set in mean accuracy.

    The methods that lose least where they lose most come first.
    """
    below: dict[str, dict[str, tuple[float, str]]] = {}
    for name, rows in tables.items():
        best, *_ = methods = methods_in(rows)
        for one in methods:
            found = compared(best, one, mean)
            loss = one.mean("accuracy") - best.mean("accuracy")
            apart = found is not None and not found.level
            text = f"{loss:+.3f}".replace("-", "−") if one is not best else "0"
            below.setdefault(one.name, {})[name] = (loss, text + "*" * apart)
    names = list(tables)
    header = ["method", *names, "mean"]
    lines: list[list[str]] = [header, ["---"] * len(header)]

    def rank(own: Mapping[str, tuple[float, str]]) -> tuple[bool, float]:
        losses = [np.nan_to_num(loss, nan=-1) for loss, _ in own.values()]
        return len(own) < len(names), -min(losses)

    for method, own in sorted(below.items(), key=lambda pair: rank(pair[1])):
        cells = [own[n][1] if n in own else "" for n in names]
        average = float(np.mean([loss for loss, _ in own.values()]))
        lines.append([method, *cells, f"{average:+.3f}".replace("-", "−")])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    tables = {}
    for name in SETS:
        for participation in PARTICIPATION:
            label = file_name(name, participation)
            path = args.folder / "runs" / f"{label}.csv"
            if path.exists():
                tables[label] = read_rows(path)
                text = f"# {label}: {SETS[name].about}\n\n{table(tables[label])}\n"
                write_text(args.folder / f"{label}.md", text)
    if not tables:
        folder = args.folder / "runs"
        parser.error(
            f"{folder} has no table of runs; benchmarks.evidence.results first"
        )
    parts = (
        ("# FedAPM against each other method", SUMMARY, summary(tables)),
        ("# Each method against the best", BEST, against_best(tables)),
    )
    text = "\n\n".join(part for three in parts for part in three)
    write_text(args.folder / "summary.md", text + "\n")


if __name__ == "__main__":
    main()
