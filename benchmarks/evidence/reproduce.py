"""Train a row of a published table again, and say whether it lies in its band.

    python -m benchmarks.evidence.reproduce TABLE ROW --data DATA [--seed S] [--out DIR]
                                            [--results docs/results/evidence]

TABLE is the name of a table, such as ``watch-few-full``, ROW a method; DATA is what
``benchmarks.evidence.data`` wrote. The row's published setting is trained with one of
its seeds. Its band is where a further run lies in 19 of 20 cases: the mean over seeds,
± Student's t times the spread of a run over seeds and rounding. On the processor and
with the versions of the row the digest is that of the row as well.

Exit code 1 means that the figure lies outside of the band.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.evidence.bootstrap import spread
from benchmarks.evidence.results import Row, file_name, read_rows, read_run
from benchmarks.evidence.sets import PARTICIPATION, SETS
from benchmarks.evidence.study import Cell, Final, final
from benchmarks.evidence.tables import Method
from fedapm_mpi.errors import FedAPMError
from fedapm_mpi.studies.scaling.speedup import t_quantile

NAMED = {file_name(s, p): (s, p) for s in SETS for p in PARTICIPATION}


def band(one: Method) -> tuple[float, float]:
    """Return where the accuracy of a further run lies in 19 of 20 cases."""
    seeds = one.values("accuracy")
    again = np.array([row.number("accuracy") for row in one.replicates])
    again = again[~np.isnan(again)]  # of those that were finite
    degrees = len(seeds) - 1
    if degrees < 1:
        return float("-inf"), float("inf")
    half = t_quantile(degrees) * spread(seeds, again) * (1 + 1 / len(seeds)) ** 0.5
    middle = float(seeds.mean())
    return middle - half, middle + half


def compare(published: Row, one: Method, here: dict[str, str]) -> tuple[str, bool]:
    """Return what is found, and whether it lies in the band."""
    low, high = band(one)
    value = float(here["accuracy"])
    inside = low <= value <= high
    wide = "none, of fewer than two seeds" if low == -np.inf else ""
    lines = [
        f"published   {one.mean('accuracy'):.4f}, the mean of {len(one.seeds)} seeds; "
        f"{published.number('accuracy'):.4f} with seed {published.final.seed}",
        f"here        {value:.4f} with seed {published.final.seed}",
        "band        "
        + (wide or f"{low:.4f} to {high:.4f}: {'inside' if inside else 'OUTSIDE'}"),
        "digest      "
        + ("the same" if here["digest"] == published.values["digest"] else "another"),
    ]
    for name in ("data", "torch", "numpy", "processor"):
        there = published.values[name]
        if there != here[name]:
            lines.append(f"{name:<12}{there} there, {here[name]} here")
    return "\n".join(lines), inside


def main() -> None:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=NAMED, metavar="TABLE")
    parser.add_argument("row", metavar="ROW")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--seed", type=int, help="one of the row's (default: its first)"
    )
    parser.add_argument("--out", type=Path, help="where to keep the run")
    parser.add_argument("--results", type=Path, default=Path("docs/results/evidence"))
    args = parser.parse_args()
    path = args.results / "runs" / f"{args.table}.csv"
    if not path.exists():
        there = sorted(one.stem for one in path.parent.glob("*.csv"))
        parser.error(
            f"{path} does not exist; published are: {', '.join(there) or 'none'}"
        )
    rows = read_rows(path)
    known = list(dict.fromkeys(row.method for row in rows))
    if args.row not in known:
        parser.error(f"{args.table} has no row {args.row!r}; it has {', '.join(known)}")
    one = Method(args.row, rows)
    seed = one.seeds[0].final.seed if args.seed is None else args.seed
    published = [row for row in one.seeds if row.final.seed == seed]
    if not published:
        seeds = ", ".join(str(row.final.seed) for row in one.seeds)
        parser.error(f"{args.row} has no seed {seed}; it has {seeds}")
    name, participation = NAMED[args.table]
    cell = Cell(name, participation, args.row)
    setting = args.results / "settings" / name / participation / f"{args.row}.yaml"
    with tempfile.TemporaryDirectory() as scratch:
        out, run = args.out or Path(scratch), Final(seed, 0)
        try:
            final(cell, setting, out, run, data=args.data)
        except FedAPMError as error:
            parser.error(str(error))
        folder = cell.folder(out) / run.name
        here = {
            key: str(value) for key, value in read_run(folder, args.row, run, 0).items()
        }
    if "accuracy" not in here:  # its loss was not finite
        also = published[0].failed
        print(f"the loss is not finite here; there it was{' not either' * also}")
        sys.exit(0 if also else 1)
    text, inside = compare(published[0], one, here)
    print(text)
    sys.exit(0 if inside else 1)


if __name__ == "__main__":
    main()
