"""How well rules choose what is personal: every split is trained, then compared.

    python -m benchmarks.split_study train  DATA --out DIR [--sets NAME...] [--seeds N]
    python -m benchmarks.split_study search DATA --out DIR [--sets NAME...] [--seeds N]
    python -m benchmarks.split_study table --out DIR

DATA is what ``benchmarks.defaults.data`` wrote. ``train`` trains FedAPM with every
split that ``fedapm split --list`` names, and FedAvg; with everything personal clients
train on their own. ``search`` records what the rules choose. Each result is a line of a
file in DIR; those that are there are not repeated, so that a study can be stopped and
continued. ``table`` makes ``table.md`` of the files. One process, one core.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import fedapm_mpi
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.config.schema import Config
from fedapm_mpi.training.preemption import PreemptionGuard
from fedapm_mpi.training.split_search import SplitSearch, split_of

Options = dict[str, Any]
Line = dict[str, str]

SETS = ("star", "heart", "hapt", "watch", "digits", "cifar-b0.3", "cifar-b5")
RULES = ("multiplier", "federation_sensitivity", "fedselect")
RUNS = ("data", "method", "split", "personal", "seed", "accuracy", "worst_decile")
CHOICES = ("data", "rule", "seed", "chosen", "personal", "names", "seconds")
TESTS = (
    *("data", "seed", "candidate", "personal"),
    *("layer", "parameters", "lm", "p_value"),
)
LR, ROUNDS = 0.004, 30

SOLVER: Options = {
    "rounds": ROUNDS,
    "optimizer": {"name": "adam", "betas": [0.9, 0.99]},
    "schedule": {"name": "cosine", "final": 0.05},
    "evaluation": {"every": ROUNDS},
    "checkpoint": {"every": ROUNDS, "keep": 1},
    "loggers": ["jsonl"],
}
FEDAPM: Options = {
    "name": "fedapm",
    "block_order": "joint",
    "joint_work": {"epochs": 2},
    "batch_size": 16,
    "lr_personal": LR,
    "lr_shared": LR,
    "rho": 0.3,
    "sigma": 0.0,
}
FEDAVG: Options = {
    "name": "fedavg",
    "work": {"epochs": 2},
    "batch_size": 16,
    "lr": LR,
}


def configuration(data: Path, seed: int, **more: Any) -> Options:
    """Return the configuration of a run on a data set."""
    images = data.name.startswith("cifar")
    mlp = {"name": "mlp", "hidden": [64]}
    cnn = {"name": "cnn", "channels": [8, 16], "hidden": 64}
    model = cnn if images else mlp
    return {**SOLVER, "data": str(data), "model": model, "seed": seed, **more}


def checked(data: Path, seed: int, **options: Any) -> Config:
    """Return the checked configuration of a search."""
    split = {"auto": options}
    return validate(configuration(data, seed, algorithm=FEDAPM, split=split), "study")


class Results:
    """A CSV file to which lines are added, and which is read before."""

    def __init__(self, path: Path, fields: Sequence[str]) -> None:
        self.path, self.fields = path, fields
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(",".join(fields) + "\n")

    def lines(self) -> list[Line]:
        """Return all lines."""
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def has(self, **wanted: object) -> bool:
        """Return whether there is a line with these values."""
        texts = {key: str(value) for key, value in wanted.items()}
        return any(texts.items() <= line.items() for line in self.lines())

    def add(self, **values: object) -> None:
        """Add a line."""
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.fields).writerow(values)


def train(data: Path, out: Path, seeds: int) -> None:
    """Train with every split of a data set, and FedAvg."""
    results = Results(out / "runs.csv", RUNS)
    for seed in range(1, seeds + 1):
        splits: dict[str, tuple[int, Options]] = {
            one.name: (one.size, {"personal": split_of(one).personal})
            for one in SplitSearch(Serial(), checked(data, seed)).candidates
        }
        for name, (size, split) in splits.items():
            key = {"data": data.name, "method": "fedapm", "split": name, "seed": seed}
            if not results.has(**key):
                score = trained(
                    configuration(data, seed, algorithm=FEDAPM, split=split)
                )
                results.add(**key, personal=size, **score)
        key = {"data": data.name, "method": "fedavg", "split": "nothing", "seed": seed}
        if not results.has(**key):
            score = trained(configuration(data, seed, algorithm=FEDAVG))
            results.add(**key, personal=0, **score)


def trained(config: Options) -> Options:
    """Return the scores of a run at its end."""
    with tempfile.TemporaryDirectory() as folder:
        run = fedapm_mpi.train(config, run_dir=Path(folder) / "run")
        last = fedapm_mpi.load_run(run.directory).records[-1]
    return {
        "accuracy": f"{last['accuracy']:.5f}",
        "worst_decile": f"{last['accuracy_worst_decile']:.5f}",
    }


def search(data: Path, out: Path, seeds: int) -> None:
    """Record what each rule chooses on a data set, and LM of all candidates.

    A choice that is none of the candidates is trained, as those are by `train`.
    """
    runs = Results(out / "runs.csv", RUNS)
    choices = Results(out / "choices.csv", CHOICES)
    tests = Results(out / "tests.csv", TESTS)
    for seed in range(1, seeds + 1):
        for rule in RULES:
            key = {"data": data.name, "rule": rule, "seed": seed}
            if choices.has(**key):
                continue
            begun = time.monotonic()
            found = SplitSearch(Serial(), checked(data, seed, rule=rule))
            # LM of all candidates once, where it is cheap; the choice is the same.
            whole = seed == 1 and not data.name.startswith("cifar")
            choice = found.run(PreemptionGuard(), everything=whole)
            assert choice is not None
            for one in choice.tested:
                who = {"candidate": one.candidate.name, "personal": one.candidate.size}
                for layer, test in one.tests.items():
                    tests.add(data=data.name, seed=seed, **who, layer=layer,
                              parameters=test.size, lm=f"{test.lm:.5g}",
                              p_value=f"{test.p_value:.3g}")  # fmt: skip
            chosen = choice.chosen
            choices.add(**key, chosen=chosen.name, personal=chosen.size,
                        names=" ".join(chosen.personal),
                        seconds=round(time.monotonic() - begun, 1))  # fmt: skip
            name = {"data": data.name, "method": "fedapm", "split": chosen.name}
            if chosen.name == rule and not runs.has(**name, seed=seed):
                split = {"personal": choice.split.personal}
                score = trained(
                    configuration(data, seed, algorithm=FEDAPM, split=split)
                )
                runs.add(**name, seed=seed, personal=chosen.size, **score)


def table(out: Path) -> str:
    """Return the comparison as Markdown."""
    choices = Results(out / "choices.csv", CHOICES).lines()
    runs = _finished(Results(out / "runs.csv", RUNS).lines(), choices)
    header = ("data", "best split", "worst split", "local-only", "FedAvg", *RULES)
    lines = [_row(header), _row(["---"] * len(header))]
    lines += [_row(_compared(name, runs, choices)) for name in _names(runs)]
    tests = Results(out / "tests.csv", TESTS).lines()
    columns = ("data", "split", "personal", "largest LM", "in the layer", "accuracy")
    lines += ["", _row(columns), _row(["---"] * len(columns))]
    for name in _names(runs):
        lines += [_row(cells) for cells in _tested(name, runs, tests)]
    return "\n".join(lines) + "\n"


def _tested(name: str, runs: list[Line], tests: list[Line]) -> Iterator[list[str]]:
    """Yield the cells of each split of a data set, with LM of what it leaves shared."""
    own = [x for x in runs if x["data"] == name and x["method"] == "fedapm"]
    sizes = {line["split"]: line["personal"] for line in own}
    for k, (split, size) in enumerate(sizes.items()):
        scores = [float(x["accuracy"]) for x in own if x["split"] == split]
        found = [
            (float(x["lm"]), x["layer"])
            for x in tests
            if (x["data"], x["candidate"]) == (name, split)
        ]
        lm, layer = max(found, default=(0.0, ""))
        value = f"{lm:.2f}" if found else "–"
        yield ["" if k else name, split, size, value, layer, _score(scores)]


def _finished(runs: list[Line], choices: list[Line]) -> list[Line]:
    """Return the runs of the seeds with which all was trained, and all rules chose."""

    def seeds(lines: list[Line], key: str, value: str) -> set[tuple[str, str]]:
        return {(x["data"], x["seed"]) for x in lines if x[key] == value}

    whole = seeds(runs, "method", "fedavg")  # trained last
    for rule in RULES:
        whole &= seeds(choices, "rule", rule)
    return [line for line in runs if (line["data"], line["seed"]) in whole]


def _names(runs: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(line["data"] for line in runs))


def _compared(name: str, runs: list[Line], choices: list[Line]) -> Iterator[str]:
    """Yield the cells of a data set."""
    own = [line for line in runs if line["data"] == name]
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for line in own:
        key = (line["method"], line["split"])
        scores.setdefault(key, {})[line["seed"]] = float(line["accuracy"])
    splits = {
        split: list(known.values())
        for (method, split), known in scores.items()
        if method == "fedapm" and split not in RULES
    }
    ranked = sorted(splits, key=lambda one: mean(splits[one]))
    yield name
    yield f"{ranked[-1]} {_score(splits[ranked[-1]])}"
    yield f"{ranked[0]} {_score(splits[ranked[0]])}"
    yield _score(splits["all"])
    yield _score(list(scores["fedavg", "nothing"].values()))
    for rule in RULES:
        made = [
            line
            for line in choices
            if (line["data"], line["rule"]) == (name, rule)
            and line["seed"] in scores["fedavg", "nothing"]
        ]
        seen = [scores.get(("fedapm", line["chosen"]), {}) for line in made]
        found = [one.get(x["seed"]) for one, x in zip(seen, made, strict=True)]
        known = [value for value in found if value is not None]
        names = ", ".join(dict.fromkeys(line["chosen"] for line in made))
        yield f"{names} {_score(known)}" if len(known) == len(made) > 0 else names


def _score(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{mean(values):.3f}" if values else "–"
    return f"{mean(values):.3f} ± {stdev(values):.3f}"


def _row(cells: Sequence[str] | Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run one part of the study."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("train", "search", "table"))
    parser.add_argument("data", type=Path, nargs="?", metavar="DATA")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    if args.part == "table":
        (args.out / "table.md").write_text(table(args.out))
        return
    if args.data is None:
        parser.error("DATA is missing")
    for name in args.sets:
        act = train if args.part == "train" else search
        act(args.data / name, args.out, args.seeds)
        print(f"{name}: {args.part} done", flush=True)


if __name__ == "__main__":
    main()
