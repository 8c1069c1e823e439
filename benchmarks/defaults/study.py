"""Where the default options come from: each is varied alone around a centre.

    python -m benchmarks.defaults.study DATA --out RESULTS.csv [--only PATTERN...]
                                        [--sets NAME...] [--seeds N]

DATA is what ``benchmarks.defaults.data`` wrote. Every run is one line of RESULTS.csv;
those that are there are not repeated, so that a study can be stopped and continued.
One process, one core. ``benchmarks.defaults.tables`` makes tables of the results.
"""

import argparse
import copy
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
from fedapm_mpi.config.schema import DEFAULT_ROUNDS
from fedapm_mpi.errors import FedAPMError

FIELDS = ("row", "value", "data", "seed", "accuracy", "worst_decile", "id")
MODELS: dict[str, Options] = {
    "har": {"name": "har", "hidden": 64, "filters": 16, "attention": 128},
    **{key: {"name": "cnn", "channels": [8, 16], "hidden": 64} for key in CIFAR},
}
"""By data set, unless it is a perceptron."""

MLP: Options = {"name": "mlp", "hidden": [64]}

FEWER = {"hapt": 12, "star": 20, "cifar-b0.3": 8}
"""Clients of a data set, the first ones, in all but the rows of `WHOLE`."""

WHOLE = ("lr", "rho, lr 0.004", "few, lr 0.004: *", "fedavg: lr", "by name: *")
"""Patterns of rows that have all clients of every data set."""

SETS = ("heart", "watch", "digits", "hapt", "star", "har", *CIFAR)


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
    config: Options = {
        "data": run.data,
        "model": copy.deepcopy(MODELS.get(run.data, MLP)),
        "seed": run.seed,
        "loggers": ["jsonl"],
    }
    if not any(fnmatchcase(run.row, pattern) for pattern in WHOLE):
        config["clients"] = FEWER.get(run.data)
    merge(config, dict(run.changes))
    rounds = config.get("rounds", DEFAULT_ROUNDS)
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
