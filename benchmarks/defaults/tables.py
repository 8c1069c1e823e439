"""Tables of the study of defaults: what each value loses against the best of its row.

    python -m benchmarks.defaults.tables RESULTS.csv > TABLES.md

For every row, the accuracy by data set (means over seeds), and the mean and the worst
of what is lost against the row's best value of that data set. The smallest worst loss
chooses the default.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from benchmarks.defaults.study import SETS, read

Line = Mapping[str, str]


class Value(NamedTuple):
    """A value of a row."""

    name: str
    accuracy: dict[str, float]
    """By data set, the mean over seeds."""

    mean_loss: float
    worst_loss: float


def table(lines: Iterable[Line]) -> list[Value]:
    """Return the values of one row, in the order of the results.

    A data set and a seed count if every value was trained on it.
    """
    found: dict[str, dict[tuple[str, str], float]] = {}
    for line in lines:
        cells = found.setdefault(line["value"], {})
        cells[line["data"], line["seed"]] = float(line["accuracy"])
    common = set.intersection(*(set(cells) for cells in found.values()))
    sets = [name for name in SETS if any(name == data for data, _ in common)]
    accuracy = {
        value: {
            name: fmean(cells[cell] for cell in sorted(common) if cell[0] == name)
            for name in sets
        }
        for value, cells in found.items()
    }
    best = {name: max(one[name] for one in accuracy.values()) for name in sets}
    values = []
    for value, one in accuracy.items():
        losses = [best[name] - one[name] for name in sets] or [0.0]
        values.append(Value(value, one, fmean(losses), max(losses)))
    return values


def rows(lines: Iterable[Line]) -> dict[str, list[Value]]:
    """Return the tables of all rows."""
    apart: dict[str, list[Line]] = {}
    for line in lines:
        apart.setdefault(line["row"], []).append(line)
    return {row: table(found) for row, found in apart.items()}


def markdown(name: str, values: list[Value]) -> str:
    """Return a table, the smallest worst loss in bold."""
    sets = list(values[0].accuracy)
    least = min(value.worst_loss for value in values)
    text = [
        f"| {name} | {' | '.join(sets)} | mean loss | worst loss |",
        f"|{' --- |' * (len(sets) + 3)}",
    ]
    for value in values:
        cells = [f"{value.accuracy[one]:.3f}" for one in sets]
        worst = f"{value.worst_loss:.3f}"
        cells += [f"{value.mean_loss:.3f}"]
        cells += [f"**{worst}**" if value.worst_loss == least else worst]
        text.append(f"| {value.name} | {' | '.join(cells)} |")
    return "\n".join(text)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    args = parser.parse_args()
    for name, values in rows(read(args.results)).items():
        sys.stdout.write(markdown(name, values) + "\n\n")


if __name__ == "__main__":
    main()
