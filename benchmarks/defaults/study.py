"""Where the default options come from: each is varied alone around a centre.

    python -m benchmarks.defaults.study DATA --out RESULTS.csv [--only PATTERN...]
                                        [--sets NAME...] [--seeds N]

DATA is what ``benchmarks.defaults.data`` wrote. Every run is one line of RESULTS.csv;
those that are there are not repeated, so that a study can be stopped and continued.
One process, one core. ``benchmarks.defaults.tables`` makes tables of the results.
"""

import argparse
import csv
import json
import tempfile
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import fedapm_mpi
from benchmarks.defaults.rows import CIFAR, ROWS, Options
from fedapm_mpi.config.overrides import merge
from fedapm_mpi.errors import FedAPMError

FIELDS = ("row", "value", "data", "seed", "accuracy", "worst_decile", "id")
SETS = ("heart", "watch", "digits", "hapt", "star", *CIFAR)


class Run(NamedTuple):
    """One line of the results."""

    row: str
    value: str
    data: str
    seed: int
    changes: Options
    """What differs from the row's centre."""

    @property
    def key(self) -> tuple[str, ...]:
        """Return what names the line."""
        return (self.row, self.value, self.data, str(self.seed))


def wanted(only: list[str], sets: list[str], seeds: int) -> Iterator[Run]:
    """Yield the runs in order of data sets' cost, then of rows."""
    for name in sets:
        for row, values in ROWS.items():
            if any(fnmatchcase(row, pattern) for pattern in only):
                for value, changes in values.items():
                    for seed in range(1, seeds + 1):
                        yield Run(row, value, name, seed, changes)


def configuration(run: Run) -> Options:
    """Return the whole configuration of a run, its data set by name."""
    images = run.data in CIFAR
    mlp = {"name": "mlp", "hidden": [64]}
    cnn = {"name": "cnn", "channels": [8, 16], "hidden": 64}
    config: Options = {
        "data": run.data,
        "model": cnn if images else mlp,
        "seed": run.seed,
        "loggers": ["jsonl"],
    }
    merge(config, dict(run.changes))
    if config["algorithm"].get("split") is not None:
        config["split"] = config["algorithm"].pop("split")
    rounds = config["rounds"]
    config["evaluation"] = {"every": rounds}
    config["checkpoint"] = {"every": rounds, "keep": 1}
    return config


def train(config: Mapping[str, Any]) -> tuple[float, float]:
    """Return accuracy and worst decile after the last round; 0 if training diverges."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            trained = fedapm_mpi.train(config, run_dir=Path(folder) / "run")
        except FedAPMError as error:
            if "learning rate" not in str(error):
                raise
            return 0.0, 0.0
        last = fedapm_mpi.load_run(trained.directory).records[-1]
        return last["accuracy"], last["accuracy_worst_decile"]


def main() -> None:
    """Train what is not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=["*"], help="patterns of rows")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    lines = read(args.out)
    done = {tuple(line[key] for key in FIELDS[:4]) for line in lines}
    # The centre is a value of every row: it is trained once.
    known = {line["id"]: (line["accuracy"], line["worst_decile"]) for line in lines}
    for run in wanted(args.only, args.sets, args.seeds):
        if run.key in done:
            continue
        config = configuration(run)
        name = sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]
        if name not in known:
            scores = train({**config, "data": str(args.data / run.data)})
            known[name] = (f"{scores[0]:.5f}", f"{scores[1]:.5f}")
        with args.out.open("a", newline="") as file:
            csv.writer(file).writerow([*run.key, *known[name], name])


def read(path: Path) -> list[dict[str, str]]:
    """Return the lines of a file of results, which is begun if it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(",".join(FIELDS) + "\n")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
