"""The fair protocol: correct methods, one grid, equal passes, all clients evaluated.

    python -m benchmarks.paper.fair STUDY --data DATA --out RUNS [--methods M...]
                                    [--jobs N]
    python -m benchmarks.paper.fair STUDY --data DATA --out RUNS --methods M
                                    --seed S --chosen docs/results/fair/STUDY.json

The first chooses every method's setting on the validation parts, with one seed and the
same number of trials for every method, and then trains with it on every seed. Trials
are shorter than what follows: where a training loss does not stay finite, the method
goes back to a step size smaller by the root of 3, for all seeds, until none diverges.
The second trains one cell of a published table again, with its published settings:
its digest must be that of the table. Finished runs are never repeated.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

from benchmarks.paper.runs import curve, train
from benchmarks.paper.studies import (
    METHODS,
    STUDIES,
    Method,
    Setting,
    Study,
    configuration,
)

TUNING_SEED = 1
SCORED = 5
"""Last evaluations of a trial whose mean accuracy is its score."""

FINER = (3**-0.5, 3**0.5)
"""Factors of the best step size to try where a method has no coefficient."""

SMALLER = 3**-0.5
"""Factor of a step size with which a seed diverged."""


class Cells:
    """The cells of one method in one study.

    Parameters
    ----------
    name
        The method's name.
    study
        The study.
    data
        Folder of the data sets.
    out
        Folder of the study's runs.
    ranks
        MPI ranks of a run; 0 is a single process.
    """

    def __init__(self, name: str, study: Study, data: str, out: Path, ranks: int):
        self.method: Method = METHODS[name]
        self.study, self.data, self.ranks = study, data, ranks
        self.out = out / name

    def choose(self) -> Setting:
        """Return the best setting on the validation parts, trying what was not yet."""
        chosen = self.out / "chosen.json"
        if chosen.exists():
            return Setting(**json.loads(chosen.read_text())["setting"])
        first = self.method.coefficients[0] if self.method.coefficients else None
        tried = {
            setting: self.score(setting)
            for setting in (Setting(lr, first) for lr in self.study.learning_rates)
        }
        best = max(tried, key=lambda setting: tried[setting])
        if self.method.coefficients:
            more = [replace(best, coefficient=c) for c in self.method.coefficients[1:]]
        else:
            more = [_scaled(best, factor) for factor in FINER]
        tried |= {setting: self.score(setting) for setting in more}
        best = max(tried, key=lambda setting: tried[setting])
        record = {
            "setting": asdict(best),
            "trials": [asdict(s) | {"score": score} for s, score in tried.items()],
        }
        chosen.write_text(json.dumps(record, indent=1) + "\n")
        return best

    def score(self, setting: Setting) -> float:
        """Return a setting's validation accuracy, -1 if training diverges."""
        words = [f"lr{setting.lr:g}"]
        if setting.coefficient is not None:
            words.append(f"c{setting.coefficient:g}")
        run = self.out / "-".join(["trial", *words])
        config = configuration(
            self.study, self.method, setting, data=self.data, seed=TUNING_SEED,
            tuning=True,
        )  # fmt: skip
        if not train(config, run, self.ranks):
            return -1.0
        return fmean(value for _, value in curve(run, "accuracy")[-SCORED:])

    def train_all(self, setting: Setting) -> Setting:
        """Train on every seed; return the setting with which none diverged."""
        while not all(self.final(setting, seed) for seed in self.study.seeds):
            smaller = _scaled(setting, SMALLER)
            self._set_aside(setting, smaller)
            setting = smaller
        return setting

    def final(self, setting: Setting, seed: int) -> bool:
        """Train on one seed, evaluated on the test parts; return whether it ended."""
        config = configuration(
            self.study, self.method, setting, data=self.data, seed=seed
        )
        return train(config, self.out / f"seed-{seed}", self.ranks)

    def _set_aside(self, setting: Setting, smaller: Setting) -> None:
        """Move away what was trained with a setting, and note that it diverged."""
        aside = self.out / f"diverged-lr{setting.lr:g}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        for path in self.out.glob("seed-*"):
            path.rename(aside / path.name)
        # Last, so that what is found under `seed` was always trained as noted.
        chosen = self.out / "chosen.json"
        record = json.loads(chosen.read_text())
        record["setting"] = asdict(smaller)
        record["diverged"] = [*record.get("diverged", []), asdict(setting)]
        chosen.write_text(json.dumps(record, indent=1) + "\n")


def _scaled(setting: Setting, factor: float) -> Setting:
    return replace(setting, lr=float(f"{setting.lr * factor:.3g}"))


def main(words: Sequence[str] | None = None) -> None:
    """Run a study, or one cell of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper.fair")
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--data", required=True, help="folder of the data sets")
    parser.add_argument("--out", required=True, type=Path, help="folder for the runs")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seed", type=int, help="only this seed")
    parser.add_argument("--chosen", type=Path, help="settings to use as they are")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--ranks", type=int, default=0, help="MPI ranks of a run")
    args = parser.parse_args(words)
    study, out = STUDIES[args.study], args.out / "fair" / args.study
    if args.seed is not None:
        study = replace(study, seeds=(args.seed,))
    published = json.loads(args.chosen.read_text()) if args.chosen else {}

    def work(name: str) -> None:
        cells = Cells(name, study, str(Path(args.data).absolute()), out, args.ranks)
        if name in published:
            setting = Setting(**published[name]["setting"])
            for seed in study.seeds:
                cells.final(setting, seed)
        else:
            setting = cells.train_all(cells.choose())
        print(f"{args.study} {name}: done, {setting}", flush=True)

    with ThreadPoolExecutor(args.jobs) as pool:
        for future in [pool.submit(work, name) for name in args.methods]:
            future.result()


if __name__ == "__main__":
    main()
